"""The progress of a job, across its attempts, until it has ended."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import ArtifactSort
from prefect.exceptions import ObjectNotFound

from deployments.connection import connect
from deployments.jobs.attempts import (
    OUTCOMES,
    decisive_attempt,
    is_settled,
    known_attempts,
)
from deployments.jobs.records import AWAY, LONGEST_OUTAGE, SETTLED, Progress
from tasks.contracts import Queue, attempt_number, job_id
from tasks.errors import ServerUnavailable
from tasks.prefect_api.briefly import briefly
from tasks.prefect_api.clock import server_time
from tasks.prefect_api.progress import text_of
from tasks.prefect_api.transient import is_transient

_POLL = 0.5  # seconds between two queries
_SHARED = 2.0  # seconds for which what many jobs share counts


async def read_progress(client: PrefectClient, job: UUID) -> Progress:
    """Read the progress of a job. `job` is its id, or the id of any attempt at it.

    Raises InvalidPayload where the server knows no such job.
    """
    return await progress_now(client, await _decisive(client, job))


async def follow(job: UUID) -> AsyncGenerator[Progress]:
    """Read the progress of a job every half second, until it has ended: the last has an outcome.

    Tolerates ten minutes without a server, but not at the first query. Raises InvalidPayload where
    there is no such job, and ServerUnavailable.
    """
    now = asyncio.get_running_loop().time
    async with connect() as client:
        run = await _decisive(client, job)
        progress = await progress_now(client, run)
    answered, ended = now(), None
    # Without the retries of Prefect's client: its pauses double, so it would notice late that the
    # server is back, and an outage would look like a job without progress.
    async with connect(retries=0) as client:
        while True:
            if progress.outcome is None:
                ended = None
                yield progress
            else:
                ended = ended or now()
                if is_settled(run) or now() - ended > SETTLED:
                    break
            await asyncio.sleep(_POLL)
            try:
                run = await _refreshed(client, run)
                progress = await progress_now(client, run)
                answered = now()
            except httpx.HTTPError as error:
                if not is_transient(error):
                    raise
                if now() - answered > LONGEST_OUTAGE:
                    raise outage_error(progress.job) from error
                if progress.outcome is None:
                    progress = replace(progress, state=AWAY, text="", ahead=None)
    yield progress


def outage_error(job: UUID) -> ServerUnavailable:
    """The error for a server that has not answered for LONGEST_OUTAGE."""
    return ServerUnavailable(
        f"the Prefect server has not answered for {LONGEST_OUTAGE / 60:.0f} minutes: restart it, "
        f"then query job {job} again"
    )


async def _refreshed(client: PrefectClient, run: FlowRun) -> FlowRun:
    """The current state of an attempt, or the attempt that has replaced it."""
    try:
        found = await client.read_flow_run(run.id)
    except ObjectNotFound:
        found = None
    if found is None or (found.state is not None and found.state.is_final()):
        return await _decisive(client, job_id(run.labels, run.id))
    return found


async def _decisive(client: PrefectClient, job: UUID) -> FlowRun:
    return decisive_attempt(await known_attempts(client, job))


async def progress_now(client: PrefectClient, run: FlowRun) -> Progress:
    """The progress of a job, from its decisive attempt."""
    state = run.state
    outcome = OUTCOMES.get(run.state_type)
    explained = state is not None and (state.is_final() or state.is_paused())
    text = (state.message or "") if state and explained and outcome != "completed" else ""
    before = None
    if run.state_type is StateType.SCHEDULED:
        before = await _jobs_before(client, run, datetime.now(UTC) + await _clock_offset(client))
        if before is None and run.expected_start_time:
            text = f"due at {run.expected_start_time.astimezone(UTC):%F %T} UTC"
    fraction = 1.0 if outcome == "completed" else 0.0
    if run.state_type in (StateType.RUNNING, StateType.CANCELLING):
        fraction, text = await _bar(client, run)
    return Progress(
        job=job_id(run.labels, run.id),
        fraction=fraction,
        text=" ".join(text.split()),
        state=run.state_name or "unknown",
        attempt=attempt_number(run.labels),
        ahead=before,
        outcome=outcome,
    )


async def _bar(client: PrefectClient, run: FlowRun) -> tuple[float, str]:
    """The share that is done and the text, from an attempt's progress artifact."""
    bars = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
            type=ArtifactFilterType(any_=["progress"]),
        ),
        sort=ArtifactSort.CREATED_DESC,
        limit=1,
    )
    if not bars or not isinstance(bars[0].data, int | float):
        return 0.0, ""
    text = text_of(bars[0].data, bars[0].description or "")
    return min(1.0, bars[0].data / 100), text


async def _jobs_before(client: PrefectClient, run: FlowRun, now: datetime) -> int | None:
    """How many waiting jobs are served before this one.

    None where it is scheduled for later, or is in none of our queues.
    """
    due, pool, queue = run.next_scheduled_start_time, run.work_pool_name, run.work_queue_name
    if due is None or pool is None or queue is None or queue not in set(Queue):
        return None
    if run.expected_start_time is not None and run.expected_start_time > now:
        return None
    queues = list(Queue)
    more_urgent = tuple(queues[: queues.index(Queue(queue))])
    in_queue = await _waiting(client, pool, (queue,), due)
    before = await _waiting_now(client, pool, more_urgent) + in_queue
    return max(0, before - 1)  # the run itself is among them


@briefly(_SHARED)
async def _clock_offset(client: PrefectClient) -> timedelta:
    return await server_time(client) - datetime.now(UTC)


@briefly(_SHARED)
async def _waiting_now(client: PrefectClient, pool: str, queues: tuple[str, ...]) -> int:
    """How many jobs are due in queues of a pool: for all jobs in less urgent queues the same."""
    if not queues:
        return 0
    now = datetime.now(UTC) + await _clock_offset(client)
    return await _waiting(client, pool, queues, now)


async def _waiting(
    client: PrefectClient, pool: str, queues: tuple[str, ...], until: datetime
) -> int:
    return await client.count_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        work_queue_filter=WorkQueueFilter.model_validate({"name": {"any_": [*queues]}}),
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "state": {"type": {"any_": [StateType.SCHEDULED]}},
                "next_scheduled_start_time": {"before_": until},
            }
        ),
    )
