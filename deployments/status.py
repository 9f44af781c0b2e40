"""What is going on: queues, workers, the last jobs, and queues that only a typo can have made."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.pools import read_queues
from tasks.contracts import ATTEMPT_LABEL, Pool, Queue, job_id

WAITING = [StateType.SCHEDULED]
RUNNING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_SHOWN = 10


@dataclass(frozen=True)
class QueueStatus:
    """One queue: how many jobs wait in it and how many of its jobs run."""

    pool: str
    name: str
    waiting: int
    running: int


@dataclass(frozen=True)
class WorkerStatus:
    """One worker process, as the server last heard of it."""

    pool: str
    name: str
    status: str
    last_heartbeat: datetime | None


@dataclass(frozen=True)
class JobStatus:
    """The latest attempt at a job. Times in seconds."""

    job: UUID
    attempt: int
    name: str
    task: str
    queue: str
    state: str
    message: str
    waited: float
    ran: float


@dataclass(frozen=True)
class StrayQueue:
    """A queue of one of our pools that is none of ours, and the runs that went there."""

    pool: str
    name: str
    runs: list[FlowRun]


@dataclass(frozen=True)
class Status:
    """A server at one moment."""

    queues: list[QueueStatus]
    workers: list[WorkerStatus]
    jobs: list[JobStatus]
    strays: list[StrayQueue]


async def read_status(client: PrefectClient) -> Status:
    """Ask the server what is going on in our pools."""
    queues: list[QueueStatus] = []
    workers: list[WorkerStatus] = []
    strays: list[StrayQueue] = []
    for pool in Pool:
        try:
            present = await read_queues(client, pool)
        except ObjectNotFound:
            continue
        names = {queue.name for queue in present}
        for queue in (queue for queue in Queue if queue in names):
            waiting, running = [
                await _count(client, pool, queue, states) for states in (WAITING, RUNNING)
            ]
            queues.append(QueueStatus(pool, queue, waiting, running))
        # Prefect gives every pool a queue named `default`; nothing of ours puts a run there.
        for name in sorted(names - set(Queue)):
            runs = await _runs_in(client, pool, name)
            if runs or name != "default":
                strays.append(StrayQueue(pool, name, runs))
        workers += [
            WorkerStatus(pool, worker.name, worker.status or "unknown", worker.last_heartbeat_time)
            for worker in await client.read_workers_for_work_pool(pool)
        ]
    runs = await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_SHOWN,
    )
    tasks = {flow.id: flow.name for flow in await client.read_flows()}
    jobs = [job_status(run, tasks.get(run.flow_id, "unknown")) for run in runs]
    return Status(queues, workers, jobs, strays)


def job_status(run: FlowRun, task: str) -> JobStatus:
    """One attempt, as its user thinks of it."""
    due = run.expected_start_time
    waited = (run.start_time - due).total_seconds() if run.start_time and due else 0.0
    state = run.state
    return JobStatus(
        job=job_id(run.labels, run.id),
        attempt=int(run.labels.get(ATTEMPT_LABEL, 1)),
        name=run.name,
        task=task,
        queue=run.work_queue_name or "",
        state=state.name or state.type.value if state else "unknown",
        message=(state.message or "") if state and not state.is_completed() else "",
        waited=max(0.0, waited),
        ran=run.estimated_run_time.total_seconds(),
    )


def _in_queue(pool: str, queue: str) -> tuple[WorkPoolFilter, WorkQueueFilter]:
    return (
        WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])),
    )


async def _count(client: PrefectClient, pool: str, queue: str, states: list[StateType]) -> int:
    in_pool, in_queue = _in_queue(pool, queue)
    return await client.count_flow_runs(
        work_pool_filter=in_pool,
        work_queue_filter=in_queue,
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))
        ),
    )


async def _runs_in(client: PrefectClient, pool: str, queue: str) -> list[FlowRun]:
    in_pool, in_queue = _in_queue(pool, queue)
    return await client.read_flow_runs(
        work_pool_filter=in_pool, work_queue_filter=in_queue, limit=_SHOWN
    )
