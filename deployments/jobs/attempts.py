"""Finds the attempts at a job, by the job's id or by that of any attempt."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
    Operator,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound

from deployments.jobs.records import SETTLED, Outcome
from tasks.contracts import attempt_number, job_id, requeue_key
from tasks.errors import InvalidPayload

OUTCOMES: dict[StateType | None, Outcome] = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
}
"""The outcome of a job, by the state of its decisive attempt. A crash is none: it is retried."""
_DECIDED_BY_LATER = (StateType.FAILED, StateType.CANCELLED, StateType.CRASHED)
_MOST = 100  # the upper bound of the setting `max_attempts`; a page of the API holds 200


async def attempts(client: PrefectClient, job: UUID) -> list[FlowRun]:
    """All attempts at a job, in order. Empty where the server knows none.

    `job` is its id, or the id of any attempt at it.
    """
    try:
        run = await client.read_flow_run(job)
        job = job_id(run.labels, run.id)
    except ObjectNotFound:
        pass  # the first attempt may be deleted while later ones exist
    keys = later_keys(job)
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "operator": Operator.or_,
                "id": FlowRunFilterId(any_=[job]),
                "idempotency_key": FlowRunFilterIdempotencyKey(any_=keys),
            }
        )
    )
    return sorted(found, key=lambda run: attempt_number(run.labels))


def later_keys(job: UUID) -> list[str]:
    """The keys of the attempts at a job after the first. The API does not filter by labels."""
    return [requeue_key(job, number) for number in range(2, _MOST + 1)]


def decided_by_later(run: FlowRun) -> bool:
    """Whether a later attempt may decide the state of a job, by the state of its first one."""
    return run.state_type in _DECIDED_BY_LATER


async def known_attempts(client: PrefectClient, job: UUID) -> list[FlowRun]:
    """All attempts at a job, in order. Raises InvalidPayload where the server knows none."""
    found = await attempts(client, job)
    if not found:
        raise InvalidPayload(f"no job {job} is known here: `prefecture jobs` lists them")
    return found


def decisive_attempt(runs: Sequence[FlowRun]) -> FlowRun:
    """The attempt that decides the state of a job: the completed one, or else the latest."""
    completed = [run for run in runs if run.state_type is StateType.COMPLETED]
    return [*runs, *completed[:1]][-1]


def is_settled(run: FlowRun) -> bool:
    """Whether the final state of a decisive attempt can no longer change."""
    if run.state is None or run.state.is_completed():
        return True
    return (datetime.now(UTC) - run.state.timestamp).total_seconds() > SETTLED
