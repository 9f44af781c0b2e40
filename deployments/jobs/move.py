"""Moves jobs that wait to another queue.

Prefect cannot change the queue of a run. The job is held, and gets its next attempt in the other
queue, as after a crash: so it keeps its id, and nothing runs twice.
"""

from datetime import UTC, datetime
from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Crashed

from deployments.jobs.hold import latest_attempt, take
from deployments.jobs.queries.filters import state_of
from deployments.jobs.records import JobState
from deployments.jobs.request import check_queue
from tasks.contracts import (
    ATTEMPT_LABEL,
    HELD,
    HOLDS,
    JOB_ID_LABEL,
    MOVED,
    MOVES_LABEL,
    REQUEUE_OF_LABEL,
    REQUEUED_AS_LABEL,
    WAITS_FOR_JOBS,
    attempt_number,
    job_id,
    moves,
    own_tags,
    requeue_key,
)
from tasks.errors import PrefectureError

_MOST = 50
"""Of the hundred attempts that a job may have."""


async def move(client: PrefectClient, job: str, queue: str) -> str:
    """Move a job that waits to another queue. Returns its new state as a sentence.

    It keeps its id, and has the place there that its submission gives it; a job that is held, is
    due later or waits for other jobs still does. Raises PrefectureError where it has started or
    ended, InvalidPayload for an unknown queue.
    """
    check_queue(queue)
    run = await latest_attempt(client, job)
    name, number = job_id(run.labels, run.id), attempt_number(run.labels) + 1
    if run.work_queue_name == queue:
        return f"job {name} is in the queue {queue} already"
    if number > _MOST:
        raise PrefectureError(f"job {name} was moved or tried {number - 1} times: no more is done")
    if run.deployment_id is None:
        raise PrefectureError(
            f"job {name} has no deployment any more: `prefecture apply` puts them on the server, "
            "then submit it again"
        )
    before = state_of(run, datetime.now(UTC))
    if run.state_type is not StateType.PAUSED:
        await take(client, run)
    try:
        answer = await client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": run.deployment_id},
            json=_next_attempt(run, number, queue, before),
        )
    except PrefectHTTPStatusError as error:
        reason = " ".join(error.response.text.split())[:300]
        raise PrefectureError(
            f"job {name} is held now, and not moved: {reason}: move it again, or release it"
        ) from error
    # The job is this attempt from now on, also where what follows does not happen: supervisors look
    # for it before they start one for an attempt that is lost.
    await client.set_flow_run_state(
        run.id, Crashed(name=MOVED, message=f"moved to the queue {queue}"), force=True
    )
    await client.update_flow_run_labels(run.id, {REQUEUED_AS_LABEL: answer.json()["id"]})
    return f"job {name} is in the queue {queue} now"


def _next_attempt(run: FlowRun, number: int, queue: str, state: JobState) -> dict[str, Any]:
    """The API request for the attempt in the other queue. `state`: of the job before the move."""
    labels = {key: value for key, value in run.labels.items() if not key.startswith("prefect.")}
    body: dict[str, Any] = {
        "name": run.name,
        "parameters": run.parameters,
        "enforce_parameter_schema": False,  # accepted for the first attempt
        "tags": own_tags(run.tags),
        "job_variables": run.job_variables or {},
        "work_queue_name": queue,
        "idempotency_key": requeue_key(job_id(run.labels, run.id), number),
        "labels": labels
        | {
            JOB_ID_LABEL: str(job_id(run.labels, run.id)),
            ATTEMPT_LABEL: number,
            REQUEUE_OF_LABEL: str(run.id),
            MOVES_LABEL: moves(run.labels) + 1,
        },
    }
    due = run.next_scheduled_start_time
    if state in (JobState.HELD, JobState.BLOCKED):
        # Not those of a run that is being held at this moment: it is Pending.
        name, message = HELD, HOLDS
        if state is JobState.BLOCKED and run.state is not None:
            name, message = WAITS_FOR_JOBS, run.state.message
        body["state"] = {
            "type": StateType.PAUSED.value,
            "name": name,
            "message": message,
            "state_details": {"pause_reschedule": True},
        }
    elif due is not None:
        details = {"scheduled_time": due.isoformat()}
        body["state"] = {"type": StateType.SCHEDULED.value, "state_details": details}
    return body
