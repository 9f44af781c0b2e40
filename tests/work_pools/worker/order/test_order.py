"""What a worker finds to run where many jobs wait, on a stock Prefect server."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from tasks.contracts import Resources
from tests.support.platform import post, rest
from tests.support.recorded import recorded_client
from tests.support.servers import stock_server
from work_pools.worker.admission import Admission
from work_pools.worker.order.further import Further

NOW = datetime.now(UTC)
QUEUES = ("high", "normal", "low")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with stock_server(tmp_path_factory.mktemp("stock")) as api:
        yield api


class Pool:
    """A pool of its own with our queues, in which runs wait."""

    def __init__(self, api: str, slots: int | None = None) -> None:
        self.name = f"jobs-{uuid4().hex[:6]}"
        self.api = api
        post(api, "/work_pools/", name=self.name, type=Taking.type, concurrency_limit=slots)
        flow = post(api, "/flows/", name="primes")["id"]
        self.deployments: dict[str, str] = {}
        for priority, queue in enumerate(QUEUES, 1):
            post(api, f"/work_pools/{self.name}/queues", name=queue, priority=priority)
            made = post(
                api, "/deployments/", name=f"{self.name}-{queue}", flow_id=flow,
                work_pool_name=self.name, work_queue_name=queue,
            )  # fmt: skip
            self.deployments[queue] = made["id"]

    def wait(self, queue: str, name: str, minutes: float, **more: Any) -> UUID:
        """Submit a run that has waited for so many minutes. Returns its id."""
        due = (NOW - timedelta(minutes=minutes)).isoformat()
        state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due}}
        path = f"/deployments/{self.deployments[queue]}/create_flow_run"
        return UUID(post(self.api, path, name=name, state=state, **more)["id"])


class Taking(Admission, ProcessWorker):
    """A worker that is asked what it would take."""

    type = "taking"

    async def found(self) -> list[str]:
        """The names of the runs that it may take, in order."""
        runs = await self.client.get_scheduled_flow_runs_for_work_pool(
            self._work_pool_name, [], datetime.now(UTC)
        )
        return [each.flow_run.name for each in runs]


@asynccontextmanager
async def worker(api: str, pool: Pool, slots: int, **offer: Any) -> AsyncGenerator[Taking]:
    """A worker on a host with so many slots."""
    with temporary_settings({PREFECT_API_URL: api}):
        one = Taking(work_pool_name=pool.name, limit=slots, offer=Resources(**offer))
        async with one as started:
            await started.sync_with_backend()
            yield started


async def test_jobs_for_other_hosts_in_front_keep_no_host_idle(api: str) -> None:
    """Also where the server answers no more runs than the pool has free slots."""
    pool = Pool(api, slots=2)
    gpu = {"job_variables": {"gpus": 1}}
    for number in range(3):
        pool.wait("high", f"gpu-{number}", 50 - number, **gpu)
    pool.wait("normal", "gpu-3", 60, **gpu)
    for name, minutes in (("second", 30), ("first", 40), ("third", 20)):
        pool.wait("normal", name, minutes)
    pool.wait("low", "fourth", 90)
    async with worker(api, pool, 4) as plain, worker(api, pool, 1, gpus=1) as other:
        assert await plain.found() == ["first", "second"]  # the pool has no more slots
        assert (await other.found())[0] == "gpu-0"
        rest(api, "PATCH", f"/work_pools/{pool.name}/queues/normal", {"is_paused": True})
        assert await plain.found() == ["fourth"]


async def test_what_never_fits_here_is_read_once_and_what_may_fit_each_time(api: str) -> None:
    pool = Pool(api, slots=1)
    for number in range(5):
        pool.wait("normal", f"gpu-{number}", 50 - number)
    requests: list[str] = []
    async with recorded_client(api, requests) as client:
        found = await client.get_scheduled_flow_runs_for_work_pool(pool.name, [], NOW)
        further = Further(page=2)

        async def read(*passed: str) -> list[list[str]]:
            requests.clear()
            names: list[list[str]] = []
            async for page in further.pages(client, pool.name, found, NOW):
                names.append([each.flow_run.name for each in page.runs])
                page.is_passed = {*names[-1]} <= {*passed}
            return names

        every = [["gpu-1"], ["gpu-2"], ["gpu-3"], ["gpu-4"]]
        assert await read() == every
        assert await read("gpu-1", "gpu-3", "gpu-4") == every
        # From the last one on that was passed over: others may be due at the same moment.
        assert await read("gpu-1", "gpu-2") == [["gpu-1", "gpu-2"], *every[2:]]
        assert await read() == [["gpu-2", "gpu-3"], ["gpu-4"]]
        # The queues, the pages of `normal`, `low`, and Prefect's own `default`.
        assert len(requests) == 1 + 3 + 2
