"""What a worker reads of the runs that it starts, on a stock Prefect server."""

import asyncio
from collections.abc import AsyncGenerator
from uuid import UUID

import pytest
import pytest_asyncio
from prefect.exceptions import ObjectNotFound
from prefect.workers.base import BaseWorker

from tests.support.platform import Platform, post, rest
from tests.support.recorded import recorded_client
from work_pools.worker.prefect_internals import WithoutSubmitting
from work_pools.worker.reading_once import OnceClient


@pytest.fixture
def requests() -> list[str]:
    """The paths of requests that were made."""
    return []


@pytest_asyncio.fixture
async def client(stock_api: str, requests: list[str]) -> AsyncGenerator[OnceClient]:
    async with recorded_client(stock_api, requests) as client:
        yield OnceClient(client, {})


def deployment(api: str, name: str) -> tuple[UUID, UUID]:
    """The ids of a new flow and a deployment of it."""
    flow = post(api, "/flows/", name=name)["id"]
    return UUID(flow), UUID(post(api, "/deployments/", name=name, flow_id=flow)["id"])


async def test_a_deployment_is_read_once_for_each_run(
    stock_api: str, client: OnceClient, requests: list[str]
) -> None:
    _, first = deployment(stock_api, "first")
    _, second = deployment(stock_api, "second")

    async def start() -> list[str | None]:
        async def configure() -> str | None:
            return (await client.read_deployment(first)).description

        there = (await client.read_deployment(first)).description
        return [there, await asyncio.create_task(configure())]

    assert await asyncio.create_task(start()) == [None, None]
    assert requests == [f"/deployments/{first}"]
    rest(stock_api, "PATCH", f"/deployments/{first}", {"description": "changed"}).raise_for_status()
    assert await asyncio.create_task(start()) == ["changed", "changed"]
    assert requests == [f"/deployments/{first}"] * 2
    assert (await client.read_deployment(second)).id == second
    rest(stock_api, "DELETE", f"/deployments/{first}").raise_for_status()
    with pytest.raises(ObjectNotFound):
        await asyncio.create_task(start())


async def test_a_flow_is_read_once(stock_api: str, client: OnceClient, requests: list[str]) -> None:
    flow, _ = deployment(stock_api, "third")
    for _ in range(3):
        assert (await client.read_flow(flow)).name == "third"
    assert requests == [f"/flows/{flow}"]
    await client.read_deployment_by_name("third/third")  # everything else is as it was
    assert requests[1:] == ["/deployments/name/third/third"]


def test_a_job_is_pending_until_it_runs(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/high", {"upper_bound": 10}, "states")
    process_platform.completed(job, "states")
    states = process_platform.rest("GET", f"/flow_run_states/?flow_run_id={job}").json()
    assert [one["name"] for one in states] == ["Scheduled", "Pending", "Running", "Completed"]


def test_what_is_private_in_prefects_worker_is_still_there() -> None:
    (name,) = [name for name in vars(WithoutSubmitting) if name.startswith("_propose")]
    assert name in vars(BaseWorker)
