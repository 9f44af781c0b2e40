"""The state of a pool that decides whether it starts a job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import WorkPool, WorkQueue
from prefect.exceptions import ObjectNotFound

from deployments.jobs.queries.listing import read_task_names
from deployments.pools import (
    drained_workers,
    offers_of,
    read_queues,
    read_worker_reports,
    slots_of,
)
from deployments.status import RUNNING, AgentStatus, read_agents
from tasks.contracts import Resources
from tasks.prefect_api.briefly import briefly

SECONDS = 2.0
"""For which an answer counts that explains many jobs."""


@dataclass(frozen=True)
class PoolState:
    """A pool, and what belongs to one job that waits in it: `queue` and `unfit`."""

    pool: WorkPool
    queue: WorkQueue | None
    """The queue that the job waits in."""
    online: int
    """Number of workers with a recent heartbeat."""
    offline: int
    taken: int | None
    """How many jobs the online workers take at once; None unless all report it."""
    agents: list[AgentStatus]
    drained: int = 0
    """Number of those online that take no new job: their host is drained."""
    unfit: str = ""
    """What the job asks for and no host has; empty where a host has it."""
    running: Sequence[tuple[str, float]] = ()
    """Task and seconds so far of each job that holds a slot."""
    is_fair: bool = False
    """Whether users share the queue `normal`: its order is not that of submission."""
    queues: Mapping[str, WorkQueue] = field(default_factory=dict[str, WorkQueue])
    """All queues of the pool, by their names."""
    offers: Mapping[str, Resources | None] = field(default_factory=dict[str, "Resources | None"])
    """What each worker that takes new jobs offers; None for one that does not report it."""

    @property
    def slots(self) -> int:
        """How many jobs can run at once; where workers do not report it, as many as run now."""
        limit = self.pool.concurrency_limit
        taken = len(self.running) if self.taken is None else self.taken
        return taken if limit is None else min(limit, taken)


@briefly(SECONDS)
async def read_pool_state(client: PrefectClient, name: str) -> PoolState | None:
    """The state of a pool, without what belongs to one job. None where there is no such pool."""
    try:
        pool = await client.read_work_pool(name)
    except ObjectNotFound:
        return None
    workers = await client.read_workers_for_work_pool(name)
    online = {worker.name for worker in workers if worker.status == "ONLINE"}
    drained = await drained_workers(client, name)
    taking = online - drained
    running = await client.read_flow_runs(
        work_pool_filter=pool_filter(name),
        flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": RUNNING}}}),
    )
    tasks = await read_task_names(client)
    reports = await read_worker_reports(client)
    return PoolState(
        pool=pool,
        queue=None,
        online=len(online),
        offline=len(workers) - len(online),
        drained=len(drained & online),
        taken=slots_of(taking, reports, name),
        agents=await read_agents(client) if pool.is_paused else [],
        running=[
            (tasks.get(each.flow_id, "unknown"), each.estimated_run_time.total_seconds())
            for each in running
        ],
        is_fair=any(
            each.is_fair for each in reports if each.pool == name and each.worker in online
        ),
        queues={queue.name: queue for queue in await read_queues(client, name)},
        offers=offers_of(taking, reports, name),
    )


def pool_filter(name: str) -> WorkPoolFilter:
    """The filter for what is in a pool."""
    return WorkPoolFilter(name=WorkPoolFilterName(any_=[name]))
