"""The order in which a worker finds runs, where those of `low` may not wait for ever."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest_asyncio
from prefect.client.schemas.objects import FlowRun

from tests.support.platform import post, rest
from tests.support.recorded import recorded_client
from work_pools.worker.order.low_waits import PatientClient, Turns

NOW = datetime.now(UTC)
# Submitted so many minutes ago, by queue.
WAITING = {"normal": (50, 40), "low": (90, 70, 5), "high": (1,)}


@pytest_asyncio.fixture
async def client(stock_api: str) -> AsyncGenerator[Any]:
    """A client of a server that has a pool, its queues, and runs that wait in them."""
    post(stock_api, "/work_pools/", name="jobs", type="process")
    flow = post(stock_api, "/flows/", name="primes")["id"]
    for priority, queue in enumerate(("high", "normal", "low"), 1):
        post(stock_api, "/work_pools/jobs/queues", name=queue, priority=priority)
        made = post(
            stock_api, "/deployments/", name=queue, flow_id=flow, work_pool_name="jobs",
            work_queue_name=queue,
        )  # fmt: skip
        for minutes in WAITING[queue]:
            due = (NOW - timedelta(minutes=minutes)).isoformat()
            state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
            path = f"/deployments/{made['id']}/create_flow_run"
            post(stock_api, path, name=f"{queue}-{minutes}", state=state)
    async with recorded_client(stock_api, []) as client:
        yield client
    rest(stock_api, "DELETE", "/work_pools/jobs")


async def test_one_of_low_that_has_waited_too_long_comes_before_normal(client: Any) -> None:
    async def found(turns: Turns, *queues: str) -> list[str]:
        patient = PatientClient(client, turns)
        runs = await patient.get_scheduled_flow_runs_for_work_pool("jobs", list(queues), NOW)
        return [each.flow_run.name for each in runs]

    strict = ["high-1", "normal-50", "normal-40", "low-90", "low-70", "low-5"]
    assert await found(Turns(timedelta(hours=2))) == strict
    hour = Turns(timedelta(hours=1))
    patient = ["high-1", "low-90", "normal-50", "normal-40", "low-70", "low-5"]
    assert await found(hour) == patient
    hour.started([])  # no slot was free
    assert await found(hour) == patient
    assert await found(hour, "high", "normal") == strict[:3]
    hour.started([])
    runs = await client.read_flow_runs()
    first = next(run for run in runs if run.name == "low-90")
    assert await found(hour) == patient
    hour.started([first])
    other = FlowRun(id=UUID(int=1), flow_id=UUID(int=2))
    for _ in range(3):  # of four starts, one
        assert await found(hour) == strict
        hour.started([other])
    assert await found(hour) == patient
