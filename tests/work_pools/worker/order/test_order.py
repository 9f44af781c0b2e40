"""What a worker finds to run where many jobs wait, on a stock Prefect server."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.workers.process import ProcessWorker

from tasks.contracts import Resources
from tests.support.platform import post, rest
from tests.support.recorded import recorded_client
from work_pools.worker.admission import Admission
from work_pools.worker.order.fair_share import FairClient
from work_pools.worker.order.further import Further
from work_pools.worker.order.usage import Usage
from work_pools.worker.order.users_waiting import UsersWaiting, fair_order

NOW = datetime.now(UTC)
QUEUES = ("high", "normal", "low")


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


async def test_jobs_for_other_hosts_in_front_keep_no_host_idle(stock_api: str) -> None:
    """Also where the server answers no more runs than the pool has free slots."""
    pool = Pool(stock_api, slots=2)
    gpu = {"job_variables": {"gpus": 1}}
    for number in range(3):
        pool.wait("high", f"gpu-{number}", 50 - number, **gpu)
    pool.wait("normal", "gpu-3", 60, **gpu)
    for name, minutes in (("second", 30), ("first", 40), ("third", 20)):
        pool.wait("normal", name, minutes)
    pool.wait("low", "fourth", 90)
    async with worker(stock_api, pool, 4) as plain, worker(stock_api, pool, 1, gpus=1) as other:
        assert await plain.found() == ["first", "second"]  # the pool has no more slots
        assert (await other.found())[0] == "gpu-0"
        rest(stock_api, "PATCH", f"/work_pools/{pool.name}/queues/normal", {"is_paused": True})
        assert await plain.found() == ["fourth"]


async def test_what_never_fits_here_is_read_once_and_what_may_fit_each_time(stock_api: str) -> None:
    pool = Pool(stock_api, slots=1)
    for number in range(5):
        pool.wait("normal", f"gpu-{number}", 50 - number)
    requests: list[str] = []
    async with recorded_client(stock_api, requests) as client:
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


def fair(client: PrefectClient, name: str, usage: Usage | None = None) -> FairClient:
    """A worker's client with two free slots, which reads four runs of the queue at a time."""
    waiting = UsersWaiting("normal", page=4)
    used = usage or Usage(3600)
    return FairClient(client, name, used, waiting, lambda: (set(), 2), lambda _: True)


async def names(client: FairClient, pool: Pool) -> list[str]:
    found = await client.get_scheduled_flow_runs_for_work_pool(pool.name, [], datetime.now(UTC))
    return [each.flow_run.name for each in found]


async def test_users_share_normal_however_many_jobs_one_of_them_has(stock_api: str) -> None:
    pool = Pool(stock_api, slots=2)
    for number in range(6):
        pool.wait("normal", f"anna-{number}", 50 - number, tags=["user:anna"])
    async with recorded_client(stock_api, []) as client:
        one, other = fair(client, "one"), fair(client, "other")
        assert await names(one, pool) == ["anna-0", "anna-1"]
        pool.wait("normal", "ben-0", 5, tags=["user:ben"])
        pool.wait("normal", "ben-1", 4, tags=["user:ben"])
        pool.wait("normal", "nobody-0", 3)
        assert await names(other, pool) == ["anna-0", "ben-0"]

        # What ben has used on another host counts.
        usage, ended = Usage(3600), uuid4()
        usage.take(ended, "ben")
        usage.end(ended)
        usage.take(uuid4(), "ben")
        await usage.exchange(client, pool.name, "third")
        later = fair(client, "later")
        assert await names(later, pool) == ["anna-0", "nobody-0"]

        # The other queues stay as they are: the pool has two slots.
        pool.wait("high", "high-0", 1, tags=["user:ben"])
        assert await names(later, pool) == ["high-0", "anna-0"]


async def test_runs_that_were_held_or_cancelled_are_not_picked(stock_api: str) -> None:
    pool = Pool(stock_api, slots=1)
    pool.wait("normal", "anna-0", 50, tags=["user:anna"])
    runs = [
        pool.wait("normal", f"ben-{number}", 40 - number, tags=["user:ben"]) for number in range(3)
    ]
    async with recorded_client(stock_api, []) as client:
        usage = Usage(3600)
        usage.take(uuid4(), "anna")
        one = fair(client, "one", usage)
        assert await names(one, pool) == ["ben-0"]
        for run, state in zip(runs, ("CANCELLED", "PAUSED"), strict=False):
            body = {"state": {"type": state}, "force": True}
            rest(stock_api, "POST", f"/flow_runs/{run}/set_state", body).raise_for_status()
        assert await names(one, pool) == ["ben-2"]


def test_of_two_users_who_have_used_as_much_the_first_comes_first() -> None:
    def place(minutes: int) -> tuple[datetime, UUID]:
        return NOW - timedelta(minutes=minutes), uuid4()

    anna, ben = [place(9), place(8), place(7), place(1)], [place(6), place(5)]
    order = fair_order({"anna": anna, "ben": ben}, {})
    assert order == [id for _, id in (anna[0], ben[0], anna[1], ben[1], *anna[2:])]
    order = fair_order({"anna": anna, "ben": ben}, {"anna": 1.5})
    assert order == [id for _, id in (ben[0], ben[1], *anna)]
