"""Cancels a job, at its latest attempt."""

import asyncio
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, Cancelling

from deployments.jobs.attempts import known_attempts
from deployments.jobs.queries.short_ids import resolve_job
from tasks.contracts import attempt_number, job_id
from tasks.errors import PrefectureError

_MESSAGE = "cancelled on request"
_POLL = 0.25  # seconds between two queries
_REQUEUED = 2.0  # seconds in which a supervisor that saw the crash first may still requeue
_ENDED = (StateType.COMPLETED, StateType.FAILED)
_QUEUED = (StateType.SCHEDULED, StateType.PAUSED)


async def cancel(client: PrefectClient, job: str, limit: float, *, wait: bool = True) -> str:
    """Cancel a job. Returns its new state as a sentence.

    `job` is its id, that of any attempt at it, or an unambiguous prefix.

    Waits until nothing of the job runs, for `limit` seconds at most; without `wait`, only until its
    state is Cancelling. Raises PrefectureError where it has completed or failed, and where it does
    not end in time.
    """
    wanted = await resolve_job(client, job)
    latest = await _latest(client, wanted)
    wanted = job_id(latest.labels, latest.id)
    if latest.state_type is StateType.CANCELLED:
        return f"job {wanted} is cancelled already"
    _refuse_ended(latest, wanted, "is")
    now = asyncio.get_running_loop().time
    started, settled = now(), 0.0
    while True:
        if latest.state_type is StateType.CANCELLED and now() >= settled:
            return f"job {wanted} is cancelled"
        if latest.state_type is StateType.CANCELLING and not wait:
            return f"job {wanted} is being cancelled"
        if latest.state_type is StateType.CRASHED:
            # Prefect reports a cancelled run as crashed at first: its supervisor corrects that.
            if StateType.CANCELLING not in await _history(client, latest):
                # Nothing runs, but a supervisor would requeue it.
                await client.set_flow_run_state(latest.id, Cancelled(message=_MESSAGE), force=True)
                settled = now() + _REQUEUED
        elif latest.state_type not in (StateType.CANCELLED, StateType.CANCELLING):
            is_cancelled = await _request(client, latest)
            if is_cancelled and latest.state_type in _QUEUED:
                return f"job {wanted} is cancelled"
        if now() - started > limit:
            raise PrefectureError(
                f"job {wanted} is still {_state(latest)} after {limit:.0f} s: is the supervisor "
                "of its worker there? `prefecture status` shows the agents"
            )
        await asyncio.sleep(_POLL)
        latest = await _latest(client, wanted)
        _refuse_ended(latest, wanted, "was")


async def _latest(client: PrefectClient, job: UUID) -> FlowRun:
    return (await known_attempts(client, job))[-1]


async def _request(client: PrefectClient, run: FlowRun) -> bool:
    """Request the cancellation of an attempt. Returns whether it is cancelled now, for the server
    itself cancels runs without a worker.

    Where the attempt has ended meanwhile, the server changes nothing.
    """
    answer = await client.set_flow_run_state(run.id, Cancelling(message=_MESSAGE))
    if answer.state is not None and answer.state.type is StateType.CANCELLED:
        return True
    if run.state_type is not StateType.SCHEDULED:
        return False
    # A run that a restart of its worker put back in the queue still names its former process, so
    # the server waits for a worker to kill that. The process is gone.
    if (await _history(client, run))[-2:] == [StateType.SCHEDULED, StateType.CANCELLING]:
        await client.set_flow_run_state(run.id, Cancelled(message=_MESSAGE), force=True)
    return False  # the caller reads its state once more


async def _history(client: PrefectClient, run: FlowRun) -> list[StateType]:
    """The states of an attempt since it last entered its queue, oldest first."""
    states = await client.read_flow_run_states(run.id)
    types = [state.type for state in sorted(states, key=lambda state: state.timestamp)]
    queued = [at for at, type in enumerate(types) if type is StateType.SCHEDULED]
    return types[max(queued, default=0) :]


def _refuse_ended(run: FlowRun, job: UUID, verb: str) -> None:
    if run.state_type in _ENDED:
        raise PrefectureError(
            f"job {job} {verb} {_state(run)}{' already' if verb == 'is' else ' first'}: "
            "there is nothing to cancel"
        )


def _state(run: FlowRun) -> str:
    name = run.state_name or "unknown"
    attempt = attempt_number(run.labels)
    return name if attempt == 1 else f"{name} (attempt {attempt})"
