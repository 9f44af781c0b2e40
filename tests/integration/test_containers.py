"""What a job's container may and may not do, tried from inside one."""

import json
from typing import Any
from uuid import UUID

import pytest

from tests.support.containers import PROBE_START, containers_of, engine, hardened_host_config
from tests.support.platform import Platform, wait_until

LONG = {"upper_bound": 10**10}
# Tried by Python inside a container made with the very configuration of a job's.
PROBE = f"""{PROBE_START}
import subprocess
program = pathlib.Path("/tmp/program")
program.write_text("#!/bin/sh\\n")
program.chmod(0o755)
try:
    subprocess.run([program], check=True)
    executed = True
except OSError:
    executed = False
print(json.dumps({{
    "uid": os.getuid(),
    "capabilities": status["CapEff"].strip(),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "executed": executed,
    "writes": {{folder: write(folder) for folder in sys.argv[1:]}},
}}))
"""


@pytest.fixture(scope="module")
def container(docker_platform: Platform) -> Any:
    """The container of a real job, as it was while it was there."""
    job = docker_platform.submit_job("find-primes/high", LONG, "container")
    return of_job(docker_platform, job)


def of_job(platform: Platform, job: UUID) -> Any:
    """The container of a job that takes long enough to be seen, and is then cancelled."""
    (found,) = wait_until(lambda: containers_of(platform, str(job)), what=f"a container of {job}")
    platform.rest("POST", f"/flow_runs/{job}/set_state", {"state": {"type": "CANCELLING"}})
    assert platform.ended(job)["state_type"] == "CANCELLED"
    return found


def test_its_limits(container: Any, docker_platform: Platform) -> None:
    host = hardened_host_config(container)
    assert host["Memory"] == host["MemorySwap"] == 2 * 2**30
    assert host["PidsLimit"] == 256
    assert host["NanoCpus"] == 2_000_000_000
    mounts = {m["Destination"]: m["RW"] for m in container.attrs["Mounts"]}
    assert mounts == {str(docker_platform.inputs): False, str(docker_platform.results): True}
    assert container.attrs["Config"]["User"] == "10001:10001"
    assert container.labels["prefecture"] == "job"
    command = container.attrs["Config"]["Cmd"]
    assert command[:3] == ["python", "-m", "work_pools.entrypoint.run"] and command[3:] in (
        [],
        ["--standby"],
    )


def test_what_it_can_write(container: Any, docker_platform: Platform) -> None:
    inputs, results = str(docker_platform.inputs), str(docker_platform.results)
    refused = ["/", "/opt/prefecture", "/opt/venv", "/etc", "/usr", "/var/tmp", "/root", inputs]
    found = run_like(container, ["python", "-c", PROBE, *refused, results, "/tmp"], docker_platform)
    assert found["uid"] == 10001
    assert int(found["capabilities"], 16) == 0
    assert found["no_new_privileges"] == "1"
    assert found["executed"] is False
    assert found["writes"].pop(results) == "written"
    assert found["writes"].pop("/tmp") == "written"
    assert set(found["writes"].values()) <= {"Read-only file system", "Permission denied"}


def test_its_environment_holds_no_secret(container: Any) -> None:
    names = {entry.partition("=")[0] for entry in container.attrs["Config"]["Env"]}
    assert not {name for name in names if name.startswith("PREFECT_SERVER_DATABASE")}
    assert not {name for name in names if "SECRET" in name or "PASSWORD" in name or "KEY" in name}


def test_limits_of_a_single_job(docker_platform: Platform) -> None:
    parameters = {"payload": LONG, "results_directory": "small"}
    response = docker_platform.create(
        "find-primes/high",
        parameters=parameters,
        job_variables={"mem_limit": "512m", "nano_cpus": 500_000_000, "pids_limit": 64},
    )
    job = UUID(response.json()["id"])
    host = of_job(docker_platform, job).attrs["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (512 * 2**20, 512 * 2**20)
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 64)


@pytest.mark.parametrize(
    "variables",
    [
        {"image": "another"},
        {"env": {"PREFECTURE_RESULTS_ROOT": "/etc"}},
        {"volumes": ["/:/host"]},
        {"privileged": True},
        {"command": "sh"},
        {"container_create_kwargs": {"user": "0:0"}},
        {"mem_limit": "much"},
        {"nano_cpus": 0},
    ],
    ids=lambda variables: next(iter(variables)),
)
def test_nothing_else_can_be_overridden(
    docker_platform: Platform, variables: dict[str, Any]
) -> None:
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "never"}
    response = docker_platform.create(
        "find-primes/high", parameters=parameters, job_variables=variables
    )
    assert response.status_code == 422, response.text
    assert next(iter(variables)) in response.json()["detail"]


def run_like(container: Any, command: list[str], platform: Platform) -> dict[str, Any]:
    """What a command prints in a new container with the configuration of another."""
    config = container.attrs["Config"] | {
        "Cmd": command,
        "Labels": {},
        "HostConfig": container.attrs["HostConfig"],
    }
    with engine(platform) as client:
        api: Any = client.api  # its stubs leave this method untyped
        created = api.create_container_from_config(config)
        probe = client.containers.get(created["Id"])
        try:
            probe.start()
            probe.wait(timeout=240)
            return json.loads(probe.logs(stderr=False).decode())
        finally:
            probe.remove(force=True)
