"""What waits and what runs at this moment."""

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

_RUNNING = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


async def read_backlog(client: PrefectClient) -> list[Row]:
    """A row for each queue, of all pools for jobs together."""
    taken = datetime.now(UTC)
    pools = WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
    rows: list[Row] = []
    for name in Queue:
        queue = WorkQueueFilter(name=WorkQueueFilterName(any_=[name]))

        async def count(states: list[StateType], queue: WorkQueueFilter = queue) -> int:
            return await client.count_flow_runs(
                work_pool_filter=pools, work_queue_filter=queue, flow_run_filter=_in(states)
            )

        pending = await count([StateType.SCHEDULED])
        oldest = await client.read_flow_runs(
            work_pool_filter=pools,
            work_queue_filter=queue,
            flow_run_filter=_in([StateType.SCHEDULED]),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            limit=1,
        )
        due = oldest[0].expected_start_time if oldest else None
        rows.append(
            {
                "taken": taken,
                "queue": name.value,
                "pending": pending,
                "running": await count(_RUNNING),
                "oldest_wait": max(0.0, (taken - due).total_seconds()) if due else 0.0,
            }
        )
    return rows


def _in(states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter.model_validate({"state": {"type": {"any_": states}}})
