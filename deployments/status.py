"""The state of a server: queues, workers, agents, last jobs, and queues created by typos."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from pydantic import TypeAdapter

from deployments.pools import read_queues, read_worker_reports
from tasks.contracts import (
    AGENT_VARIABLES,
    PLATFORM_POOL,
    AgentReport,
    Pool,
    Queue,
    attempt_number,
    job_id,
)
from tasks.prefect_api.clock import server_time
from tasks.prefect_api.drains import drain_of, read_drains
from tasks.prefect_api.variables import read_variables, values_as

SCHEDULED = [StateType.SCHEDULED]
RUNNING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_HELD = [StateType.PAUSED]
_SHOWN = 10
_LAST_ATTEMPTS = 50  # enough for ten jobs of five attempts each
_LATER = timedelta(microseconds=1)  # the server's filters include the time that they name


@dataclass(frozen=True)
class QueueStatus:
    """One queue: how many of its jobs wait (are due), run, or are scheduled for later.

    `held`: how many do not wait in it yet: they are held, or wait for other jobs.
    """

    pool: str
    name: str
    waiting: int
    running: int
    scheduled: int
    held: int


@dataclass(frozen=True)
class WorkerStatus:
    """One worker process, as of its last heartbeat."""

    pool: str
    name: str
    status: str
    last_heartbeat: datetime | None
    drained: bool = False
    """Whether it takes no new job: its host is drained."""
    drained_until: datetime | None = None
    """When the jobs that still run there are moved to other hosts; None for never."""


@dataclass(frozen=True)
class AgentStatus:
    """The last report of a host's agent, and its age in seconds by the server's clock."""

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
    due: datetime | None = None
    """The time it was, or is, scheduled for."""


@dataclass(frozen=True)
class StrayQueue:
    """A queue of our pools that Prefecture does not know, and the runs in it."""

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
    """The last jobs that were due."""
    scheduled: list[JobStatus]
    """The next jobs that are scheduled for later."""
    strays: list[StrayQueue]


def as_json(status: Status) -> dict[str, Any]:
    """The status as JSON."""
    return TypeAdapter(Status).dump_python(
        replace(status, strays=[]), mode="json", exclude={"strays"}
    ) | {
        "strays": [
            {"pool": stray.pool, "name": stray.name, "runs": [str(run.id) for run in stray.runs]}
            for stray in status.strays
        ]
    }


async def read_status(client: PrefectClient) -> Status:
    """Read the state of our pools from the server."""
    now = await server_time(client)
    waits, later = {"before_": now}, {"after_": now + _LATER}
    queues: list[QueueStatus] = []
    paused: list[str] = []
    workers: list[WorkerStatus] = []
    strays: list[StrayQueue] = []
    drains = await read_drains(client)
    reports = await read_worker_reports(client) if drains else []
    hosts = {(report.pool, report.worker): report.host for report in reports}
    for pool in Pool:
        try:
            present = await read_queues(client, pool)
        except ObjectNotFound:
            continue
        if (await client.read_work_pool(pool)).is_paused:
            paused.append(pool)
        names = {queue.name for queue in present}
        for queue in (queue for queue in Queue if queue in names):
            counted = [(SCHEDULED, waits), (RUNNING, None), (SCHEDULED, later), (_HELD, None)]
            counts = [await _count(client, pool, queue, *each) for each in counted]
            queues.append(QueueStatus(pool, queue, *counts))
        # Prefect gives every pool a queue named `default`, which Prefecture does not use.
        for name in sorted(names - set(Queue)):
            runs = await _runs_in(client, pool, name)
            if runs or name != "default":
                strays.append(StrayQueue(pool, name, runs))
        for worker in await client.read_workers_for_work_pool(pool):
            drain = drain_of(drains, hosts.get((pool.value, worker.name), ""), worker.name)
            workers.append(
                WorkerStatus(
                    pool,
                    worker.name,
                    worker.status or "unknown",
                    worker.last_heartbeat_time,
                    drained=drain is not None,
                    drained_until=drain.until if drain else None,
                )
            )
    try:
        own = await client.read_workers_for_work_pool(PLATFORM_POOL)
    except ObjectNotFound:
        own = []
    workers += [
        WorkerStatus(PLATFORM_POOL, w.name, w.status or "unknown", w.last_heartbeat_time)
        for w in own
    ]
    tasks = {flow.id: flow.name for flow in await client.read_flows()}
    jobs = await _jobs(
        client, tasks, {"expected_start_time": waits}, FlowRunSort.EXPECTED_START_TIME_DESC
    )
    scheduled = await _jobs(
        client,
        tasks,
        {"expected_start_time": later, "state": {"type": {"any_": SCHEDULED}}},
        FlowRunSort.EXPECTED_START_TIME_ASC,
    )
    agents = await read_agents(client, now)
    return Status(queues, paused, workers, agents, jobs, scheduled, strays)


async def _jobs(
    client: PrefectClient, tasks: Mapping[UUID, str], which: dict[str, Any], sort: FlowRunSort
) -> list[JobStatus]:
    """The latest attempts of the first jobs that match the filter `which`, in the order `sort`."""
    runs = await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        flow_run_filter=FlowRunFilter.model_validate(which),
        sort=sort,
        limit=_LAST_ATTEMPTS,
    )
    latest: dict[UUID, FlowRun] = {}
    for run in runs:
        before = latest.setdefault(job_id(run.labels, run.id), run)
        if attempt_number(run.labels) > attempt_number(before.labels):
            latest[job_id(run.labels, run.id)] = run
    return [
        job_status(run, tasks.get(run.flow_id, "unknown")) for run in list(latest.values())[:_SHOWN]
    ]


async def read_agents(client: PrefectClient, now: datetime | None = None) -> list[AgentStatus]:
    """All agents that report. `now`: by the server's clock.

    The server's clock also wrote `updated`: with another clock the age would be off.
    """
    now = now or await server_time(client)
    agents: list[AgentStatus] = []
    found = await read_variables(client, AGENT_VARIABLES)
    for variable, report in values_as(found, AgentReport):
        ago = (now - (variable.updated or report.at)).total_seconds()
        agents.append(AgentStatus(report, max(0.0, ago)))
    return agents


def job_status(run: FlowRun, task: str) -> JobStatus:
    """The status of a job, from one attempt at it."""
    state = run.state
    return JobStatus(
        job=job_id(run.labels, run.id),
        attempt=attempt_number(run.labels),
        name=run.name,
        task=task,
        queue=run.work_queue_name or "",
        state=state.name or state.type.value if state else "unknown",
        message=(state.message or "") if state and not state.is_completed() else "",
        # While it waits: the time so far, by the server's clock.
        waited=run.estimated_start_time_delta.total_seconds(),
        ran=run.estimated_run_time.total_seconds(),
        due=run.expected_start_time,
    )


def _in_queue(pool: str, queue: str) -> tuple[WorkPoolFilter, WorkQueueFilter]:
    return (
        WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])),
    )


async def _count(
    client: PrefectClient,
    pool: str,
    queue: str,
    states: list[StateType],
    due: Mapping[str, datetime] | None,
) -> int:
    """Count a queue's runs in any of `states` whose first due time matches the filter `due`."""
    in_pool, in_queue = _in_queue(pool, queue)
    wanted: dict[str, Any] = {"state": {"type": {"any_": states}}}
    return await client.count_flow_runs(
        work_pool_filter=in_pool,
        work_queue_filter=in_queue,
        flow_run_filter=FlowRunFilter.model_validate(
            wanted | ({"expected_start_time": due} if due else {})
        ),
    )


async def _runs_in(client: PrefectClient, pool: str, queue: str) -> list[FlowRun]:
    in_pool, in_queue = _in_queue(pool, queue)
    return await client.read_flow_runs(
        work_pool_filter=in_pool, work_queue_filter=in_queue, limit=_SHOWN
    )
