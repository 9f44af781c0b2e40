"""The runs of a platform flow itself, of which there is one a minute: tidied by each.

Runs that are overdue are removed, since the one that runs does their work: after a night without a
worker there is one pass, and not hundreds. What has completed is removed after an hour: otherwise
the platform's own runs would soon be most of the UI's list, and of what Prefect's database holds.
What should have ended long
ago was cut short with its worker, and is called crashed.
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

_LONGEST = timedelta(minutes=15)  # over the time limit of a platform flow
_KEPT = timedelta(hours=1)
_CUT_SHORT = Crashed(message="its worker was stopped; a later run has done its work")
_MOST = 20  # removed by one run: a few more than come


async def tidy_own_runs(client: PrefectClient) -> int:
    """Remove overdue and old runs of the deployment that this run is of. Returns how many."""
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
            with suppress(ObjectNotFound):  # by another, just now
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
