"""What a worker and a supervisor hear, and how many workers ask for runs, on a stock server."""

import asyncio
import sys
from collections.abc import Generator
from contextlib import suppress
from datetime import datetime, timedelta
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


def test_one_of_many_workers_asks_for_runs_in_its_turn(api: str, tmp_path: Path) -> None:
    """Told to ask ten times a second, one of 41 does so once a second: the rest is the others'."""

    def last_polled() -> datetime | None:
        said = rest(api, "GET", "/work_pools/process/queues/default").json()["last_polled"]
        return said and datetime.fromisoformat(said)

    for number in range(40):
        heartbeat(api, f"worker-{number}")
    command = [sys.executable, "-m", "work_pools.worker", "--pool", "process", "--name", "own"]
    own = {"PREFECT_API_URL": api, "PREFECT_HOME": str(tmp_path)}
    own |= {"PREFECT_WORKER_QUERY_SECONDS": "0.1", "DO_NOT_TRACK": "1"}
    settings = [f"{name}={value}" for name, value in own.items()]
    times = list[datetime]()

    def polled() -> int:
        if (said := last_polled()) and said not in times:
            times.append(said)
        return len(times)

    with running(
        "a worker",
        ["/usr/bin/env", *settings, *command, "--limit", "1"],
        tmp_path / "worker.log",
        lambda: bool(polled()),
    ):
        wait_until(lambda: polled() > 8, what="it asks again and again")
    # The first are for what it may have missed before it listened. On a busy machine two requests
    # arrive closer together than they were made, many do not: six take 4.5 s, without turns 0.6.
    assert times[8] - times[2] > timedelta(seconds=2)
