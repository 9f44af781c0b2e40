"""What somebody can do who has taken the token of a job: nothing but what that job does itself."""

import json
import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psutil
import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tasks.prefect_api import run_tokens
from tests.support.containers import containers_of
from tests.support.platform import Platform, wait_until
from tests.support.processes import processes_of, worker
from tests.support.session.environment import PASSWORD
from tests.support.session.tiers import thorough

_LARGE = 2**26  # bytes of memory that hold numbers, and no texts
LONG, SHORT = {"upper_bound": 10**10}, {"upper_bound": 10}


def ask(platform: Platform, token: str, method: str, path: str, body: object = None) -> int:
    """The status of a request with a token."""
    user, _, password = token.partition(":")
    address = platform.api + path
    return httpx.request(method, address, json=body, auth=(user, password)).status_code


def at_work(platform: Platform, directory: str = "plane") -> UUID:
    job = platform.submit_job("find-primes/normal", LONG, directory)
    wait_until(lambda: platform.run(job)["state_type"] == "RUNNING", what="it runs")
    return job


def cancel(platform: Platform, job: UUID) -> None:
    assert platform.command("prefecture", "cancel", str(job)).returncode == 0


@pytest.fixture(scope="module")
def running(process_platform: Platform) -> Generator[UUID]:
    """A job that runs until all that is asked with its token has been asked."""
    job = at_work(process_platform)
    yield job
    cancel(process_platform, job)


def test_a_token_is_for_its_own_run(process_platform: Platform, running: UUID) -> None:
    up = process_platform
    other = up.submit_job("find-primes/normal", SHORT, "plane")
    up.completed(other, "plane")
    with temporary_settings({PREFECT_API_URL: up.api}):
        Secret(value="hush").save("of-somebody", overwrite=True)  # pyright: ignore[reportUnusedCoroutine, reportArgumentType]
    job = running
    token = run_tokens.make(job, PASSWORD)
    assert ask(up, token, "GET", f"/flow_runs/{job}") == 200
    pool = up.rest("GET", "/work_pools/process").json()
    refused: list[tuple[str, str, Any]] = [
        ("GET", f"/flow_runs/{other}", None),
        ("POST", f"/flow_runs/{other}/set_state", {"state": {"type": "CANCELLED"}, "force": True}),
        ("DELETE", f"/flow_runs/{other}", None),
        ("POST", "/flow_runs/filter", {}),
        ("PATCH", f"/flow_runs/{job}", {"job_variables": {"env": {"A": "b"}}}),
        ("GET", "/block_types/slug/secret/block_documents?include_secrets=true", None),
        ("GET", "/block_types/slug/secret/block_documents/name/of-somebody", None),
        ("POST", "/block_documents/filter", {"include_secrets": True}),
        ("PATCH", f"/work_queues/{uuid4()}", {"is_paused": True}),
        ("PATCH", "/work_pools/process", {"is_paused": True}),
        ("POST", "/deployments/", {"name": "x", "flow_id": str(uuid4())}),
        ("POST", f"/deployments/{up.deployment('find-primes/low')}/create_flow_run", {}),
        ("POST", "/logs/", [{"name": "x", "level": 20, "message": "forged"}]),
        ("POST", "/events", [{"event": "prefecture.job.failed", "resource": {}, "payload": {}}]),
        ("GET", "/admin/settings", None),
    ]
    for method, path, body in refused:
        assert ask(up, token, method, path, body) == 403, (method, path)
    assert up.rest("GET", "/work_pools/process").json() == pool
    log = (up.home / "logs" / "server.log").read_text()
    assert f"run {job} may not: GET /api/flow_runs/{other}" in log


def test_a_token_that_is_forged_is_none(process_platform: Platform) -> None:
    job = uuid4()
    forged = [run_tokens.make(job, "admin:guessed"), f"run:{job}.9999999999.0000", "run:"]
    for token in forged:
        assert ask(process_platform, token, "GET", f"/flow_runs/{job}") == 401
    # The signature is right, and there is no such run.
    assert ask(process_platform, run_tokens.make(job, PASSWORD), "GET", f"/flow_runs/{job}") == 403


def test_a_token_is_worthless_after_its_run(process_platform: Platform) -> None:
    up = process_platform
    job = up.submit_job("find-primes/normal", SHORT, "plane")
    up.completed(job, "plane")
    token = run_tokens.make(job, PASSWORD)
    assert ask(up, token, "GET", f"/flow_runs/{job}") == 200  # for the last lines of its log
    with closing(sqlite3.connect(up.home / "prefect" / "prefect.db", 60)) as database:
        database.execute(
            "UPDATE flow_run SET end_time = datetime(end_time, '-2 minutes') WHERE id = ?",
            (str(job),),
        )
        database.commit()
    wait_until(
        lambda: ask(up, token, "GET", f"/flow_runs/{job}") == 403, what="the token is worthless"
    )


@pytest.mark.parametrize("path", ["/events/out", thorough("/logs/out")])
def test_a_token_hears_nothing(process_platform: Platform, running: UUID, path: str) -> None:
    address = process_platform.api.replace("http", "ws", 1) + path
    with connect(address, subprotocols=["prefect"]) as socket:  # pyright: ignore[reportArgumentType]
        socket.send(json.dumps({"type": "auth", "token": run_tokens.make(running, PASSWORD)}))
        with pytest.raises(ConnectionClosed, match="1008"):
            socket.recv()


def was_given(process: psutil.Process, text: bytes) -> bool:
    """Whether a process was started with a text in its environment."""
    return text in Path(f"/proc/{process.pid}/environ").read_bytes()


def knows(process: psutil.Process, text: bytes) -> bool:
    """Whether a process has a text in its memory."""
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        for region in process.memory_maps(grouped=False):
            start, end = (int(place, 16) for place in region.addr.split("-"))
            if "w" in region.perms and end - start < _LARGE:
                with suppress(OSError):  # some pages cannot be read, by anyone
                    memory.seek(start)
                    if text in memory.read(end - start):
                        return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the memory of others")
def test_no_process_of_a_job_has_the_password(platform: Platform) -> None:
    job = at_work(platform)
    found = processes_of(platform, job) if platform.pool == "process" else []
    for container in containers_of(platform, str(job)) if platform.pool == "docker" else []:
        assert PASSWORD not in json.dumps(container.attrs)
        found += [psutil.Process(int(line[1])) for line in container.top()["Processes"]]
    assert found
    assert was_given(worker(platform), PASSWORD.encode())
    assert knows(worker(platform), PASSWORD.encode())
    for process in found:
        assert not was_given(process, PASSWORD.encode())
        # A process of the worker's user can read the environments of all, and a fork server does.
        assert platform.pool == "process" or not knows(process, PASSWORD.encode())
    cancel(platform, job)
