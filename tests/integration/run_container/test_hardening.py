"""What a user's container can and cannot do, tried from inside one."""

import json
from typing import Any
from uuid import UUID

import pytest

from tests.integration.run_container.jobs import python, real, running_sibling, shell, submit_job
from tests.support.containers import PROBE_START, hardened_host_config
from tests.support.platform import Platform

PROBE = f"""{PROBE_START}
import glob, socket
def reach(host, port):
    try:
        socket.create_connection((host, port), 3).close()
        return "reached"
    except OSError as error:
        return error.strerror or str(error)
print(json.dumps({{
    "uid": os.getuid(),
    "capabilities": [status[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")],
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "writes": {{name: write(name) for name in sys.argv[3:]}},
    "sockets": glob.glob("/run/**/*.sock", recursive=True) + glob.glob("/var/run/*.sock"),
    "environment": sorted(os.environ),
    "interfaces": sorted(os.listdir("/sys/class/net")),
    "routes": [line.split()[:4] for line in open("/proc/net/route").readlines()[1:]],
    "reached": {{host: reach(host, int(sys.argv[1])) for host in sys.argv[2].split(",")}},
}}))
"""
REFUSAL = "the job variable `engine` is for deployments of Prefecture's own: leave it out"
REFUSED = ["/", "/etc", "/usr", "/var/tmp", "/root", "/input", "/home"]


def probe(platform: Platform, hosts: str, **more: Any) -> UUID:
    payload = python(PROBE, inputs="album", **more)
    payload["command"] += [str(platform.port), hosts, *REFUSED, "/output", "/tmp"]
    return submit_job(platform, payload)


def found(platform: Platform, job: UUID) -> dict[str, Any]:
    return json.loads((platform.completed(job, "containers") / "stdout.log").read_text())


def test_alone_on_the_host(docker_platform: Platform) -> None:
    seen = found(docker_platform, probe(docker_platform, "127.0.0.1"))
    assert seen["uid"] == 10001
    assert {int(mask, 16) for mask in seen["capabilities"]} == {0}
    assert seen["no_new_privileges"] == "1"
    assert seen["writes"].pop("/output") == "written"
    assert seen["writes"].pop("/tmp") == "written"
    assert set(seen["writes"].values()) <= {"Read-only file system", "Permission denied"}
    assert seen["sockets"] == []
    assert not [n for n in seen["environment"] if n.startswith(("PREFECT", "AWS", "DOCKER"))]
    assert seen["interfaces"] == ["lo"]
    assert seen["routes"] == []
    assert set(seen["reached"].values()) == {"Connection refused"}, "the API is not this loopback's"


@pytest.mark.thorough
def test_with_a_network_nothing_inside_is_reached(docker_platform: Platform) -> None:
    seen = found(docker_platform, probe(docker_platform, "127.0.0.1", network="bridge"))
    assert {int(mask, 16) for mask in seen["capabilities"]} == {0}
    assert "eth0" in seen["interfaces"]
    ways = {(interface, address) for interface, address, _, _ in seen["routes"]}
    assert ("eth0", "00000000") in ways, "the internet"
    # Link-local, 10/8, 172.16/12 and 192.168/16: `No route to host`. Nothing is sent to any.
    for address in ("0000FEA9", "0000000A", "000010AC", "0000A8C0"):
        assert ("*", address) in ways
    gateway = next(way for interface, _, way, _ in seen["routes"] if interface == "eth0")
    host = ".".join(str(byte) for byte in reversed(bytes.fromhex(gateway)))
    job = probe(docker_platform, f"127.0.0.1,{host}", network="bridge")
    reached = found(docker_platform, job)["reached"]
    assert reached == {"127.0.0.1": "Connection refused", host: "No route to host"}


def test_its_limits(docker_platform: Platform) -> None:
    payload = shell("sleep 60", memory="100m", cpus=0.5)
    payload["build"] = {"dockerfile": f"FROM {payload.pop('image')}\nVOLUME /data\n"}
    job = submit_job(docker_platform, payload)
    container = running_sibling(docker_platform, job)
    docker_platform.command("prefecture", "cancel", str(job))
    host = hardened_host_config(container)
    assert host["Memory"] == host["MemorySwap"] == 100 * 2**20
    assert (host["NanoCpus"], host["PidsLimit"]) == (500_000_000, 256)
    assert host["NetworkMode"] == "none"
    assert container.attrs["Config"]["User"] == "10001:10001"
    mounts = {mount["Destination"]: mount["Type"] for mount in container.attrs["Mounts"]}
    accounts = {"/etc/passwd": "bind", "/etc/group": "bind"}
    # Its volume is the folder itself, held open by the broker.
    assert mounts == {"/output": "volume"} | accounts
    assert not any(m["RW"] for m in container.attrs["Mounts"] if m["Destination"] in accounts)
    assert host["Tmpfs"].keys() == {"/tmp", "/data"}
    assert all("nosuid,nodev,size=268435456," in options for options in host["Tmpfs"].values())
    assert host["ShmSize"] == 100 * 2**20


@pytest.mark.parametrize("task", ["find-primes", "compress-images"])
def test_no_other_task_is_given_the_engine(docker_platform: Platform, task: str) -> None:
    id = docker_platform.deployment("run-container/high")
    variables = docker_platform.rest("GET", f"/deployments/{id}").json()["job_variables"]
    payload = {"upper_bound": 10} if task == "find-primes" else {"source": "album", "ratio": 0.5}
    response = docker_platform.create(
        f"{task}/high",
        parameters={"payload": payload, "results_directory": "never"},
        job_variables={"engine": variables["engine"]},
    )
    run = docker_platform.ended(response.json()["id"])
    assert run["state"]["message"] == REFUSAL
    assert run["state_type"] == "FAILED"


@pytest.mark.thorough
@pytest.mark.parametrize(
    "step",
    [
        {"prefect.deployments.steps.run_shell_script": {"script": "touch /run/prefecture/theirs"}},
        {"prefect.deployments.steps.set_working_directory": {"directory": "/tmp"}},
    ],
    ids=["a program", "other code"],
)
def test_no_deployment_of_others_is_given_the_engine(
    docker_platform: Platform, step: dict[str, Any]
) -> None:
    up = docker_platform
    ours = up.rest("GET", f"/deployments/{up.deployment('run-container/high')}").json()
    copied = ("flow_id", "entrypoint", "work_pool_name", "work_queue_name", "job_variables")
    body = {name: ours[name] for name in copied} | {"name": "theirs", "pull_steps": [step]}
    theirs = up.rest("POST", "/deployments/", body).json()["id"]
    try:
        parameters = {"payload": real(shell("true")), "results_directory": "never"}
        response = up.create("run-container/theirs", parameters=parameters)
        run = up.ended(response.json()["id"])
    finally:
        up.rest("DELETE", f"/deployments/{theirs}").raise_for_status()
    assert run["state"]["message"] == REFUSAL
    assert run["state_type"] == "FAILED"


def test_nothing_else_can_be_mounted_by_it(docker_platform: Platform) -> None:
    response = docker_platform.create(
        "run-container/high",
        parameters={"payload": real(shell("true")), "results_directory": "never"},
        job_variables={"engine": "/etc:/run/prefecture/docker.sock"},
    )
    assert response.status_code == 422, response.text
