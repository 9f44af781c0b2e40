"""The backlog: how many attempts are pending and running now."""

from datetime import UTC, datetime

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks.contracts import Pool, Queue
from tasks.history.outcomes import Row
from tasks.prefect_api.clock import server_time

_RUNNING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def read_backlog(client: PrefectClient) -> list[Row]:
    """Count pending and running attempts: a row for each queue, all pools of jobs together.

    A job that is scheduled for later is not pending before it is due.
    """
    taken, now = datetime.now(UTC), await server_time(client)
    waits = FlowRunFilter.model_validate(
        {
            "state": {"type": {"any_": [StateType.SCHEDULED]}},
            "expected_start_time": {"before_": now},
        }
    )
    runs = FlowRunFilter.model_validate({"state": {"type": {"any_": _RUNNING}}})
    pools = WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
    rows: list[Row] = []
    for name in Queue:
        queue = WorkQueueFilter(name=WorkQueueFilterName(any_=[name]))

        pending, running = [
            await client.count_flow_runs(
                work_pool_filter=pools, work_queue_filter=queue, flow_run_filter=which
            )
            for which in (waits, runs)
        ]
        oldest = await client.read_flow_runs(
            work_pool_filter=pools,
            work_queue_filter=queue,
            flow_run_filter=waits,
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=1,
        )
        due = oldest[0].expected_start_time if oldest else None
        rows.append(
            {
                "taken": taken,
                "queue": name.value,
                "pending": pending,
                "running": running,
                "oldest_wait": max(0.0, (now - due).total_seconds()) if due else 0.0,
            }
        )
    return rows
