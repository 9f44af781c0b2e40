"""Which runs a supervisor reads, and how often, on a stock Prefect server."""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.contracts import WORKER_LABEL, Pool
from tasks.prefect_api.clock import ServerClock
from tasks.settings import Settings
from tasks.storage.results.opening import open_results
from tests.support.other_hosts import report
from tests.support.platform import post
from tests.support.recorded import recorded_client
from tests.support.servers import stock_server
from work_pools.supervisor.agents import Agents
from work_pools.supervisor.infrastructure.processes import Processes
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import Runs
from work_pools.supervisor.watch import Watch

OWN = "own"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server with the pool `process`, on which other hosts speak."""
    with (
        stock_server(tmp_path_factory.mktemp("stock")) as api,
        temporary_settings({PREFECT_API_URL: api}),
    ):
        post(api, "/work_pools/", name="process", type="process")
        for number in range(20):
            report(api, f"other-{number}")
        yield api


def running(api: str, worker: str | None, pool: str = "process") -> UUID:
    """A run that a worker has."""
    flow = post(api, "/flows/", name="any")["id"]
    deployment = post(api, "/deployments/", name=f"on-{pool}", flow_id=flow, work_pool_name=pool)
    labels = {} if worker is None else {WORKER_LABEL: worker}
    run = post(api, f"/deployments/{deployment['id']}/create_flow_run", labels=labels)["id"]
    become(api, UUID(run), "RUNNING")
    return UUID(run)


def become(api: str, run: UUID, state: str) -> None:
    post(api, f"/flow_runs/{run}/set_state", state={"type": state}, force=True)


@pytest.fixture
def requests() -> list[str]:
    """The paths of requests that were made."""
    return []


@asynccontextmanager
async def watching(api: str, pool: str, requests: list[str], home: Path) -> AsyncGenerator[Watch]:
    """A watch of one host of a pool. The paths that it asks are added to `requests`."""
    settings = Settings(home=home)
    async with recorded_client(api, requests) as client:
        agents = Agents(client, pool, "here", OWN, settings)
        await agents.refresh(0)
        assert agents.hosts == (21 if pool == "process" else 1)
        runs = Runs(client, pool, ServerClock())
        requeue = Requeue(runs, Processes(OWN, Pool.PROCESS), open_results(settings), settings)
        yield Watch(runs, requeue, agents, OWN, interval=600)


@pytest_asyncio.fixture
async def watch(api: str, requests: list[str], tmp_path: Path) -> AsyncGenerator[Watch]:
    """A watch of one host among twenty-one, which has had its turn."""
    async with watching(api, "process", requests, tmp_path) as watch:
        yield watch


async def test_a_host_alone_asks_rarely_while_there_is_nothing(
    api: str, requests: list[str], tmp_path: Path
) -> None:
    post(api, "/work_pools/", name="alone", type="process")
    async with watching(api, "alone", requests, tmp_path) as watch:
        assert (await watch.read(set())).whole
        requests.clear()
        for _ in range(5):
            assert not (await watch.read(set())).whole
        assert requests == []

        watch.note_event()
        assert (await watch.read(set())).whole
        run = running(api, "elsewhere", pool="alone")
        assert (await watch.read({run})).whole
        requests.clear()
        for _ in range(5):
            seen = await watch.read(set())
            assert seen.whole
            assert [one.id for one in seen.active] == [run]
        assert requests == ["/flow_runs/filter"] * 5  # none for crashes: nothing has ended


async def test_a_run_that_is_active_no_more_may_have_crashed(
    api: str, requests: list[str], tmp_path: Path
) -> None:
    post(api, "/work_pools/", name="crashing", type="process")
    async with watching(api, "crashing", requests, tmp_path) as watch:
        run = running(api, "elsewhere", pool="crashing")
        assert [one.id for one in (await watch.read(set())).active] == [run]
        await watch.read(set())
        become(api, run, "CRASHED")  # and no event of it is heard
        for _ in range(2):  # until it is settled
            seen = await watch.read(set())
            assert (seen.active, [one.id for one in seen.crashed]) == ([], [run])


async def test_instances_of_other_pools_are_asked_for_once(
    api: str, requests: list[str], tmp_path: Path
) -> None:
    post(api, "/work_pools/", name="beside", type="process")
    other = running(api, "other-3")
    async with watching(api, "beside", requests, tmp_path) as watch:
        assert (await watch.read({other})).active == []
        requests.clear()
        for _ in range(5):
            assert (await watch.read({other})).active == []
        assert requests == []
    become(api, other, "COMPLETED")


async def test_one_of_many_hosts_asks_nothing_while_it_has_nothing(
    watch: Watch, requests: list[str]
) -> None:
    assert (await watch.read(set())).whole
    requests.clear()
    for _ in range(5):
        seen = await watch.read(set())
        assert (seen.active, seen.crashed, seen.whole) == ([], [], False)
    assert requests == []


async def test_one_of_many_hosts_reads_its_own_runs(
    api: str, watch: Watch, requests: list[str]
) -> None:
    own, other = running(api, OWN), running(api, "other-1")
    seen = await watch.read(set())
    assert seen.whole
    assert {run.id for run in seen.active} == {own, other}
    requests.clear()
    seen = await watch.read(set())
    assert [run.id for run in seen.active] == [own]
    assert requests == ["/flow_runs/filter"]

    become(api, own, "CRASHED")
    seen = await watch.read(set())
    assert (seen.active, [run.id for run in seen.crashed]) == ([], [own])
    become(api, own, "COMPLETED")
    become(api, other, "COMPLETED")
    seen = await watch.read(set())
    assert (seen.active, seen.crashed, seen.whole) == ([], [], False)
    assert watch.near == set()


async def test_what_a_host_has_something_of_it_reads(api: str, watch: Watch) -> None:
    await watch.read(set())
    fresh = running(api, OWN)
    assert (await watch.read(set())).active == []
    seen = await watch.read({fresh})
    assert [run.id for run in seen.active] == [fresh]
    assert watch.near == {fresh}
    become(api, fresh, "COMPLETED")


async def test_runs_of_a_host_without_reports_are_looked_at_by_all(api: str, watch: Watch) -> None:
    ghost, unclaimed = running(api, "ghost"), running(api, None)
    spoken = running(api, "other-2")
    await watch.read(set())
    assert watch.near == {ghost, unclaimed}
    seen = await watch.read(set())
    assert {run.id for run in seen.active} == {ghost, unclaimed}
    for run in (ghost, unclaimed, spoken):
        become(api, run, "COMPLETED")


async def test_a_host_can_look_at_all_runs_before_its_turn(api: str, watch: Watch) -> None:
    await watch.read(set())
    assert not (await watch.read(set())).whole
    watch.read_all_next()
    assert (await watch.read(set())).whole
