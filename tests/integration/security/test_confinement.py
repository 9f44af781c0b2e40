"""What code that has taken over a job can still do: see tasks and results alone, and end itself."""

import shutil
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support.platform import Platform
from tests.support.processes import worker

REFUSED = {"Permission denied", "Operation not permitted", "Invalid cross-device link"}
READ_ONLY = REFUSED | {"Read-only file system"}


@pytest.fixture
def attacks(platform: Platform) -> Generator[str]:
    """The name of a deployment of tests/integration/security/hostile.py."""
    up, folder = platform, platform.inputs / "hostile"
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("hostile.py"), folder)
    flow = up.rest("POST", "/flows/", {"name": "hostile"}).json()["id"]
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
    body = {
        "name": "normal",
        "flow_id": flow,
        "entrypoint": "hostile.py:hostile",
        "pull_steps": [step],
        "work_pool_name": up.pool,
        "work_queue_name": "normal",
        "job_variables": {"network": "server"},
    }
    response = up.rest("POST", "/deployments/", body)
    response.raise_for_status()
    yield "hostile/normal"
    up.rest("DELETE", f"/deployments/{response.json()['id']}").raise_for_status()
    up.rest("DELETE", f"/flows/{flow}").raise_for_status()
    shutil.rmtree(folder)


@pytest.fixture
def listener() -> Generator[int]:
    """A port of this host's loopback at which something listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_job_changes_nothing_but_its_own(platform: Platform, attacks: str, listener: int) -> None:
    up = platform
    victim = up.submit_job("find-primes/normal", {"upper_bound": 10}, "confined")
    folder = up.completed(victim, "confined")
    before = {file: file.read_bytes() for file in folder.iterdir()}
    assert not any(file.stat().st_mode & 0o222 for file in before)
    payload = {
        "published": f"confined/{victim}/primes.parquet",
        "secret": str(up.home / "prefect" / "prefect.db"),
        "process": worker(up).pid if up.pool == "process" else 1,
        "port": listener,
    }
    found: dict[str, Any] = up.manifest(up.submit_job(attacks, payload, "confined"), "confined")
    seen = found["summary"]
    assert seen.pop("temporary file") == seen.pop("mode") == "done"
    # Another port than the server's in a closed network: that of the relay.
    assert seen.pop("connect to the server") == "done"
    assert seen.pop("connect") == "Permission denied"
    assert {seen.pop("in the code"), seen.pop("in the bytecode")} <= READ_ONLY
    assert seen.pop("secret") in REFUSED | {"No such file or directory"}
    assert not {name: what for name, what in seen.items() if what not in REFUSED}
    assert {file: file.read_bytes() for file in folder.iterdir()} == before
