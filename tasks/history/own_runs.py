"""Cleanup of the runs of a platform flow, of which there is one a minute. Each run does it.

Overdue runs are removed, since the current run does their work: after a night without a worker
there is one pass, not hundreds. Completed runs are removed after an hour: otherwise the platform's
own runs would soon be most of the UI's list and of Prefect's database. A run that should have ended
long ago was killed with its worker, and is set to Crashed.
"""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

_LONGEST = timedelta(minutes=15)  # more than the time limit of a platform flow
_KEPT = timedelta(hours=1)
_CUT_SHORT = Crashed(message="its worker was stopped; a later run has done its work")
_MOST = 20  # removed by one run: more than the new ones since the last run


async def tidy_own_runs(client: PrefectClient) -> int:
    """Remove overdue and old runs of the calling run's deployment. Returns their number."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None:
        return 0
    now = datetime.now(UTC)
    overdue = {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": now}}
    old = {"state": {"type": {"any_": ["COMPLETED"]}}, "end_time": {"before_": now - _KEPT}}
    stuck = {
        "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}},
        "expected_start_time": {"before_": now - _LONGEST},
        "id": {"not_any_": [run.id]},
    }
    for each in await _of(client, run.deployment_id, stuck, _MOST):
        with suppress(ObjectNotFound):
            await client.set_flow_run_state(each.id, _CUT_SHORT, force=True)
    gone = 0
    for found in (
        [
            late
            for late in await _of(client, run.deployment_id, overdue, 200)
            if late.auto_scheduled
        ],
        await _of(client, run.deployment_id, old, _MOST),
    ):
        for each in found:
            with suppress(ObjectNotFound):  # another run removed it just now
                await client.delete_flow_run(each.id)
                gone += 1
    return gone


async def _of(
    client: PrefectClient, deployment: UUID, wanted: dict[str, Any], most: int
) -> list[FlowRun]:
    which = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment]}} | wanted)
    return await client.read_flow_runs(
        flow_run_filter=which, sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=most
    )
