"""What a worker and a supervisor hear, and how many workers ask for runs, on a stock server."""

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.other_hosts import heartbeat
from tests.support.platform import post, rest, wait_until
from tests.support.servers import running, stock_server
from work_pools.listening import listen


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server with three pools and a deployment on each."""
    with (
        stock_server(tmp_path_factory.mktemp("stock")) as api,
        temporary_settings({PREFECT_API_URL: api}),
    ):
        flow = post(api, "/flows/", name="any")["id"]
        for pool in ("heard", "other", "process"):
            post(api, "/work_pools/", name=pool, type="process")
            post(api, "/deployments/", name=pool, flow_id=flow, work_pool_name=pool)
        yield api


def submit(api: str, pool: str) -> None:
    deployment = rest(api, "GET", f"/deployments/name/any/{pool}").json()["id"]
    post(api, f"/deployments/{deployment}/create_flow_run")


def last_polled(api: str) -> datetime | None:
    said = rest(api, "GET", "/work_pools/process/queues/default").json()["last_polled"]
    return said and datetime.fromisoformat(said)


@contextmanager
def worker(api: str, folder: Path, interval: str) -> Generator[None]:
    """A worker of the pool `process` that has polled. `interval`: seconds between two polls."""
    command = [sys.executable, "-m", "work_pools.worker", "--pool", "process", "--name", "own"]
    own = {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder), "DO_NOT_TRACK": "1"}
    own |= {"PREFECT_WORKER_QUERY_SECONDS": interval, "PREFECT_WORKER_PREFETCH_SECONDS": "0"}
    settings = [f"{name}={value}" for name, value in own.items()]
    before = last_polled(api)
    with running(
        "a worker",
        ["/usr/bin/env", *settings, *command, "--limit", "1"],
        folder / "worker.log",
        lambda: last_polled(api) != before,
    ):
        yield


async def test_only_events_of_the_own_pool_are_heard(api: str) -> None:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    names = ["prefect.flow-run.Scheduled"]
    listening = asyncio.create_task(listen("heard", names, heard.put_nowait, reconnect=1))
    assert await heard.get() is None  # from now on
    for pool in ("other", "other", "heard"):
        await asyncio.to_thread(submit, api, pool)
    assert await heard.get() == "prefect.flow-run.Scheduled"
    assert heard.empty()
    listening.cancel()
    with suppress(asyncio.CancelledError):
        await listening


def test_a_run_is_taken_when_it_is_due(api: str, tmp_path: Path) -> None:
    """A worker that looks once an hour takes a run that is due in between, and not before."""
    deployment = rest(api, "GET", "/deployments/name/any/process").json()["id"]
    due = datetime.now(UTC) + timedelta(seconds=20)
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    run = post(api, f"/deployments/{deployment}/create_flow_run", state=state)["id"]

    def taken() -> datetime | None:
        states = rest(api, "GET", f"/flow_run_states/?flow_run_id={run}").json()
        found = [one["timestamp"] for one in states if one["type"] == "PENDING"]
        return datetime.fromisoformat(found[0]) if found else None

    with worker(api, tmp_path, "3600"):
        assert wait_until(taken, what="the run is taken") >= due


def test_one_of_many_workers_asks_for_runs_in_its_turn(api: str, tmp_path: Path) -> None:
    """Told to ask ten times a second, one of 41 does so once a second: the rest is the others'."""

    for number in range(40):
        heartbeat(api, f"worker-{number}")
    times = list[datetime]()

    def polled() -> int:
        if (said := last_polled(api)) and said not in times:
            times.append(said)
        return len(times)

    with worker(api, tmp_path, "0.1"):
        wait_until(lambda: polled() > 8, what="it asks again and again")
    # The first are for what it may have missed before it listened. On a busy machine two requests
    # arrive closer together than they were made, many do not: six take 4.5 s, without turns 0.6.
    assert times[8] - times[2] > timedelta(seconds=2)
