"""What is going on: queues, workers, agents, the last jobs, queues that only a typo can make."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
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
from prefect.client.schemas.objects import FlowRun, StateType, Variable
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from deployments.pools import read_queues
from tasks.contracts import (
    AGENT_VARIABLES,
    PLATFORM_POOL,
    AgentReport,
    Pool,
    Queue,
    attempt_number,
    job_id,
)

WAITING = [StateType.SCHEDULED]
RUNNING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_SHOWN = 10
_LOOKED_AT = 50  # the last attempts: those of ten jobs, if each was tried five times
_MOST_AGENTS = 200  # that one request reads


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
class AgentStatus:
    """What the agent of a host last said, and how many seconds ago by the server's clock."""

    report: AgentReport
    ago: float


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
    paused: list[str]
    """Pools whose intake is paused."""
    workers: list[WorkerStatus]
    agents: list[AgentStatus]
    jobs: list[JobStatus]
    strays: list[StrayQueue]


async def read_status(client: PrefectClient) -> Status:
    """Ask the server what is going on in our pools."""
    queues: list[QueueStatus] = []
    paused: list[str] = []
    workers: list[WorkerStatus] = []
    strays: list[StrayQueue] = []
    for pool in Pool:
        try:
            present = await read_queues(client, pool)
        except ObjectNotFound:
            continue
        if (await client.read_work_pool(pool)).is_paused:
            paused.append(pool)
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
    try:
        own = await client.read_workers_for_work_pool(PLATFORM_POOL)
    except ObjectNotFound:
        own = []
    workers += [
        WorkerStatus(PLATFORM_POOL, w.name, w.status or "unknown", w.last_heartbeat_time)
        for w in own
    ]
    agents = await _agents(client)
    return Status(queues, paused, workers, agents, await _last_jobs(client), strays)


async def _last_jobs(client: PrefectClient) -> list[JobStatus]:
    """The latest attempt of each of the last jobs."""
    runs = await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=_LOOKED_AT,
    )
    latest: dict[UUID, FlowRun] = {}
    for run in runs:
        before = latest.setdefault(job_id(run.labels, run.id), run)
        if attempt_number(run.labels) > attempt_number(before.labels):
            latest[job_id(run.labels, run.id)] = run
    tasks = {flow.id: flow.name for flow in await client.read_flows()}
    return [
        job_status(run, tasks.get(run.flow_id, "unknown")) for run in list(latest.values())[:_SHOWN]
    ]


async def _agents(client: PrefectClient) -> list[AgentStatus]:
    """All agents that report, by the names of their workers."""
    response = await client.request(
        "POST",
        "/variables/filter",
        json={"variables": {"name": {"like_": AGENT_VARIABLES}}, "limit": _MOST_AGENTS},
    )
    # The server's clock wrote `updated`: another one would only tell how far it is off.
    date = response.headers.get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    agents: list[AgentStatus] = []
    for variable in Variable.model_validate_list(response.json()):
        try:
            report = AgentReport.model_validate(variable.value)
        except ValidationError:
            continue  # someone else's variable, in spite of its name
        ago = (now - (variable.updated or report.at)).total_seconds()
        agents.append(AgentStatus(report, max(0.0, ago)))
    return agents


def job_status(run: FlowRun, task: str) -> JobStatus:
    """One attempt, as its user thinks of it."""
    state = run.state
    return JobStatus(
        job=job_id(run.labels, run.id),
        attempt=attempt_number(run.labels),
        name=run.name,
        task=task,
        queue=run.work_queue_name or "",
        state=state.name or state.type.value if state else "unknown",
        message=(state.message or "") if state and not state.is_completed() else "",
        # Of one that still waits, by the server's clock: so far.
        waited=run.estimated_start_time_delta.total_seconds(),
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
