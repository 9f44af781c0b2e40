"""The attempts at a job: found by the job's id, or by the id of any of them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal
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

from tasks.contracts import attempt_number, job_id, requeue_key
from tasks.errors import InvalidPayload

Outcome = Literal["completed", "failed", "cancelled"]

OUTCOMES: dict[StateType | None, Outcome] = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
}
"""How a job has ended, by the state of its decisive attempt. After a crash it is tried again."""
SETTLED = 3.0
"""Seconds in which Failed may still turn Completed: the result may stand after all."""
_MOST = 100  # the upper bound of the setting `max_attempts`; a page of the API holds 200


async def attempts(client: PrefectClient, job: UUID) -> list[FlowRun]:
    """Every attempt at a job, in their order. Empty where the server knows none.

    `job` is its id, or the id of any attempt at it.
    """
    try:
        run = await client.read_flow_run(job)
        job = job_id(run.labels, run.id)
    except ObjectNotFound:
        pass  # the first attempt may be deleted, and later ones there
    # Labels cannot be asked for; the keys that later attempts were made with can.
    keys = [requeue_key(job, number) for number in range(2, _MOST + 1)]
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


async def known_attempts(client: PrefectClient, job: UUID) -> list[FlowRun]:
    """As `attempts`, but raises InvalidPayload where the server knows none."""
    found = await attempts(client, job)
    if not found:
        raise InvalidPayload(f"no job {job} is known here: `prefecture jobs` lists them")
    return found


def decisive_attempt(runs: Sequence[FlowRun]) -> FlowRun:
    """The attempt that says how a job stands: the one that completed, or else the latest."""
    completed = [run for run in runs if run.state_type is StateType.COMPLETED]
    return [*runs, *completed[:1]][-1]


def is_settled(run: FlowRun) -> bool:
    """Whether the final state of a decisive attempt stays as it is."""
    if run.state is None or run.state.is_completed():
        return True
    return (datetime.now(UTC) - run.state.timestamp).total_seconds() > SETTLED
