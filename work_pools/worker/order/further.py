"""Reads further down the queues when the runs in front do not fit on this host.

The server answers with the first 200 runs that wait, or as many as the pool has free slots. If
those are for other hosts, this one would stay idle, however many runs behind them it could serve.
"""

import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
    WorkQueueFilter,
    WorkQueueFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkQueue
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.client.schemas.sorting import FlowRunSort

from tasks.prefect_api.pages import PAGE
from work_pools.worker.mixin import WorkerMixin

_MOST_PAGES = 5  # pages in one read
_KEPT = 60.0  # seconds for which a place in a queue is kept: runs may be moved in front of it

Scheduled = list[WorkerFlowRunResponse]


async def read_waiting(
    client: PrefectClient,
    pool: str,
    queue: str,
    after: datetime | None,
    until: datetime,
    limit: int = PAGE,
) -> list[FlowRun]:
    """Read a page of the runs that wait in a queue and were due at `after` or later.

    Unlike the request of Prefect's worker, it locks no run, and disregards pauses of the pool and
    the queue.
    """
    return await client.read_flow_runs(
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool])),
        work_queue_filter=WorkQueueFilter(name=WorkQueueFilterName(any_=[queue])),
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "state": {"type": {"any_": [StateType.SCHEDULED]}},
                "next_scheduled_start_time": {"before_": until, "after_": after},
            }
        ),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=limit,
    )


def is_cut(worker: WorkerMixin, found: Scheduled) -> bool:
    """Whether more runs may wait than the server has answered with."""
    if len(found) >= PAGE:
        return True
    try:
        return worker.work_pool.concurrency_limit is not None
    except RuntimeError:
        return False  # the worker has not read its pool yet


def is_for_workers(run: FlowRun) -> bool:
    """Whether a scheduled run waits for a worker, not for the process that it runs in."""
    return run.empirical_policy.retry_type != "in_process"


@dataclass
class Page:
    """Runs that wait in one queue, the next to be served first."""

    runs: Scheduled
    is_passed: bool = False
    """Whether none of them can ever start on this host: set by the reader of the page."""


class Further:
    """Reads the queues of a pool further, and keeps up to where in each no run fits on this host.

    `page`: how many runs it reads at a time.
    """

    def __init__(self, page: int = PAGE) -> None:
        self._page = page
        self._passed: dict[UUID, tuple[float, datetime]] = {}  # by queue: since when, and how far

    async def pages(
        self, client: PrefectClient, pool: str, found: Scheduled, until: datetime
    ) -> AsyncGenerator[Page]:
        """Read the runs that follow `found`, the server's answer. At most five pages.

        Queues that are paused, or have a limit, are left out: the server alone knows what may start
        there. So are runs that this host passed over less than a minute ago.
        """
        known = {each.flow_run.id for each in found}
        left = _MOST_PAGES
        for queue in await _queues(client, pool, found[-1].work_queue_id):
            place, may_pass = self._place(queue.id, found), True
            while left:
                left -= 1
                runs = await read_waiting(client, pool, queue.name, place, until, self._page)
                page = Page(
                    [
                        WorkerFlowRunResponse(
                            work_pool_id=found[-1].work_pool_id,
                            work_queue_id=queue.id,
                            flow_run=run,
                        )
                        for run in runs
                        if run.id not in known and is_for_workers(run)
                    ]
                )
                known |= {run.id for run in runs}
                if page.runs:
                    yield page
                last = runs[-1].next_scheduled_start_time if runs else place
                may_pass &= page.is_passed or not page.runs
                if may_pass and last is not None:
                    since, _ = self._passed.get(queue.id, (time.monotonic(), last))
                    self._passed[queue.id] = since, last
                if len(runs) < self._page or last == place:
                    break
                place = last

    def _place(self, queue: UUID, found: Scheduled) -> datetime | None:
        """The due time from which to read a queue: behind the runs found, and those passed over."""
        runs = (each.flow_run for each in reversed(found) if each.work_queue_id == queue)
        last = next(runs, None)
        due = None if last is None else last.next_scheduled_start_time
        places: list[datetime] = [] if due is None else [due]
        since, passed = self._passed.get(queue, (0.0, None))
        if passed is not None:
            if time.monotonic() - since < _KEPT:
                places.append(passed)
            else:
                del self._passed[queue]
        return max(places, default=None)


async def _queues(client: PrefectClient, pool: str, first: UUID) -> list[WorkQueue]:
    """The queues of a pool that have no limit, the most urgent first, from `first` on."""
    queues = sorted(await client.read_work_queues(pool), key=lambda each: each.priority)
    at = next((n for n, each in enumerate(queues) if each.id == first), len(queues))
    return [each for each in queues[at:] if not each.is_paused and each.concurrency_limit is None]
