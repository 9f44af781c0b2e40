"""Cancel a job, at whichever attempt it is."""

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
_LOOK = 0.25  # seconds between two looks
_SETTLED = 2.0  # seconds in which a supervisor that saw the crash first may still requeue
_ENDED = (StateType.COMPLETED, StateType.FAILED)


async def cancel(client: PrefectClient, job: str, limit: float, *, wait: bool = True) -> str:
    """Cancel a job and say what became of it.

    `job` is its id, that of any attempt at it, or an unambiguous prefix.

    Waits until nothing of it runs, for `limit` seconds at most; without `wait`, only until it is
    known to all that it is to end. Raises PrefectureError where it has ended otherwise, or does
    not end.
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
            # An engine that is being stopped calls that a crash: its supervisor has the last word.
            if StateType.CANCELLING not in await _history(client, latest):
                # Nothing runs, but it stands to be run again.
                await client.set_flow_run_state(latest.id, Cancelled(message=_MESSAGE), force=True)
                settled = now() + _SETTLED
        elif latest.state_type not in (StateType.CANCELLED, StateType.CANCELLING):
            await _ask(client, latest)
        if now() - started > limit:
            raise PrefectureError(
                f"job {wanted} is still {_state(latest)} after {limit:.0f} s: is the supervisor "
                "of its worker there? `prefecture status` shows the agents"
            )
        await asyncio.sleep(_LOOK)
        latest = await _latest(client, wanted)
        _refuse_ended(latest, wanted, "was")


async def _latest(client: PrefectClient, job: UUID) -> FlowRun:
    return (await known_attempts(client, job))[-1]


async def _ask(client: PrefectClient, run: FlowRun) -> None:
    """Ask for the end of an attempt: the server itself cancels what no worker has taken.

    Where the attempt has ended meanwhile, the server changes nothing.
    """
    await client.set_flow_run_state(run.id, Cancelling(message=_MESSAGE))
    if run.state_type is not StateType.SCHEDULED:
        return
    # One that was put back in its queue by a restart still names the process it had then, and so
    # waits for someone to end that. It is gone.
    if (await _history(client, run))[-2:] == [StateType.SCHEDULED, StateType.CANCELLING]:
        await client.set_flow_run_state(run.id, Cancelled(message=_MESSAGE), force=True)


async def _history(client: PrefectClient, run: FlowRun) -> list[StateType]:
    """The states of an attempt since it was last put in its queue."""
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
