"""Holds jobs that wait, so that they start in no slot, and releases them.

Prefect has no request that changes a run only if it is in the state that was read. But it lets one
worker alone claim a run: a hold claims it as a worker does. Then no worker can, and a worker that
was first has its run. A claimed run is Paused next, in which state no worker finds it.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Paused, Pending, Scheduled

from deployments.jobs.attempts import known_attempts
from deployments.jobs.queries.filters import state_of
from deployments.jobs.queries.short_ids import resolve_job
from deployments.jobs.queries.standings import undone, waits_for
from deployments.jobs.records import JobState
from tasks.contracts import AFTER_ENDED_LABEL, AFTER_LABEL, HELD, HOLDS, WAITS_FOR_JOBS, job_id
from tasks.errors import PrefectureError

# Seconds from the claim to Paused. Prefect's own workers end at once where they ask for a run that
# is Paused, and go on where another worker has claimed it: by then they have asked.
_ASKED = 0.5


async def hold(client: PrefectClient, job: str) -> str:
    """Hold a job that waits. Returns its new state as a sentence.

    `job` is its id, that of any attempt at it, or an unambiguous prefix. Raises PrefectureError
    where it has started or ended.
    """
    run = await latest_attempt(client, job)
    name = job_id(run.labels, run.id)
    if is_held(run):
        return f"job {name} is held already"
    try:
        await take(client, run)
    except PrefectureError:
        latest = await latest_attempt(client, job)
        if latest.id == run.id or not is_held(latest):
            raise
        # Moved to another queue in the same moment, where it is held.
    return f"job {name} is held"


async def release(client: PrefectClient, job: str) -> str:
    """Let a held job start. Returns its new state as a sentence.

    It enters its queue at the end; where it is due later it starts then, and where it waits for
    other jobs, after them. Raises PrefectureError where it is not held.
    """
    run = await latest_attempt(client, job)
    name = job_id(run.labels, run.id)
    if not is_held(run):
        state = state_of(run, datetime.now(UTC))
        raise PrefectureError(f"job {name} is {state}: it is not held")
    if run.state_type is not StateType.PAUSED:
        raise PrefectureError(f"job {name} is being held at this moment: release it again")
    if AFTER_LABEL in run.labels or AFTER_ENDED_LABEL in run.labels:
        left = waits_for(await undone(client, run))
        await client.set_flow_run_state(run.id, paused(WAITS_FOR_JOBS, left), force=True)
        return f"job {name} is released: it {left or 'enters its queue'}"
    due = run.expected_start_time
    if due is not None and due > datetime.now(UTC):
        await client.set_flow_run_state(run.id, Scheduled(scheduled_time=due))
        return f"job {name} is released: it is due at {due.astimezone(UTC):%F %T} UTC"
    # The server resumes only what is Paused: of two that release it, one does.
    await client.resume_flow_run(run.id)
    return f"job {name} is released: it is at the end of its queue"


async def latest_attempt(client: PrefectClient, job: str) -> FlowRun:
    """The latest attempt at a job. Raises InvalidPayload where there is no such job."""
    return (await known_attempts(client, await resolve_job(client, job)))[-1]


def is_held(run: FlowRun) -> bool:
    """Whether a run is held, or about to be."""
    return state_of(run, datetime.now(UTC)) is JobState.HELD


def paused(name: str, message: str) -> State[Any]:
    """A state in which no worker takes a run; who resumes it puts it back in its queue."""
    return Paused(name=name, message=message, reschedule=True)


async def take(client: PrefectClient, run: FlowRun) -> None:
    """Hold the latest attempt at a job, which waits. Raises PrefectureError where it has started.

    A hold that is killed in between is completed by a supervisor.
    """
    job = job_id(run.labels, run.id)
    if run.state_type is StateType.SCHEDULED:
        # By Prefect's own name: to a state of another name it lets a claimed run change.
        await client.set_flow_run_state(run.id, Pending(message=HOLDS))
    if run.state_type in (StateType.SCHEDULED, StateType.PENDING):
        await asyncio.sleep(_ASKED)
        run = await client.read_flow_run(run.id)
    if run.state_type is not StateType.PAUSED and not is_held(run):
        state = state_of(run, datetime.now(UTC))
        raise PrefectureError(f"job {job} is {state}: only a job that waits can be held or moved")
    await client.set_flow_run_state(run.id, paused(HELD, HOLDS), force=True)
