"""A worker that polls for runs as soon as an event says that there may be one, or one is due."""

import asyncio
import contextlib
import random
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_WORKER_PREFETCH_SECONDS, PREFECT_WORKER_QUERY_SECONDS

from tasks.contracts import WorkerReport
from tasks.prefect_api.drains import DRAIN_CHANGED
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.variables import put_variable
from work_pools.listening import listen
from work_pools.turns import Turns
from work_pools.worker.admission import Admission

_SCHEDULED = "prefect.flow-run.Scheduled"
_RESUMED = "prefect.flow-run.Resuming"  # scheduled again, after it was held or waited for jobs
_TAKEN = "prefect.flow-run.Pending"  # by any worker
# These may free a slot of the pool.
_ENDED = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled")]
_AFTER_FOUND = 0.05  # seconds to the next poll after one that found a run
_AFTER_EMPTY = 0.3  # after one that found none: thousands of runs may be submitted to a paused pool
_RECONNECT = 5.0  # seconds before a new subscription to events
_STAGGER = 0.02  # seconds for each worker of the pool: polls for one event spread over their sum
_FEW = 4  # up to so many workers poll at every interval; more take turns
_COUNT_INTERVAL = 60.0  # seconds between two counts of the pool's workers
_AHEAD = 1.5  # intervals that a regular poll looks ahead: Prefect's may be a third longer


class Prompt(Admission):
    """Makes any of Prefect's workers poll at once when a run is submitted or due, or a slot free.

    Regular polls find runs whose events were missed, and those that will be due before the next
    regular poll. Where the pool has many workers, their regular polls take turns, and polls for the
    same event are staggered: an event that a run is pending cancels the remaining ones.
    """

    def __init__(self, *args: Any, work_pool_name: str, **kwargs: Any) -> None:
        super().__init__(*args, work_pool_name=work_pool_name, **kwargs)
        self._pool = work_pool_name
        self._slots: int | None = kwargs.get("limit")
        self._is_fair = kwargs.get("fair_share") is not None
        self._queues: list[str] = sorted(kwargs.get("work_queues") or ())
        self._slots_are_known = self._slots is None
        self._workers = 1
        self._counted = -_COUNT_INTERVAL
        self._limited = False  # whether the pool's slots are fewer than those of its workers
        self._interval: float = PREFECT_WORKER_QUERY_SECONDS.value()
        self._turns = Turns(self._interval, lambda: self._workers, _FEW)
        self._requested = asyncio.Event()
        self._due = float("inf")  # time of the next poll, by time.monotonic
        self._for_runs_alone = True  # whether that poll is only for submitted runs
        self._not_taken = 0  # submitted runs, by their events, that no worker has claimed
        self._polling = asyncio.Lock()
        self._background: list[asyncio.Task[None]] = []

    async def setup(self) -> None:
        """See BaseWorker."""
        await super().setup()
        names = [_SCHEDULED, _RESUMED, _TAKEN, *_ENDED, DRAIN_CHANGED]
        listening = listen(self._pool, names, self._on_event, _RECONNECT)
        self._background = [
            asyncio.create_task(each) for each in (self._poll_on_request(), listening)
        ]

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await super().teardown(*exc_info)

    async def sync_with_backend(self) -> None:
        """See BaseWorker."""
        await super().sync_with_backend()
        if time.monotonic() - self._counted >= _COUNT_INTERVAL:
            with contextlib.suppress(httpx.HTTPError):  # keep the last count
                await self._count()
        if not self._slots_are_known:
            with contextlib.suppress(httpx.HTTPError):  # retried at the next sync
                await self._report_slots()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker, which calls this at intervals. Takes turns with the other workers."""
        if not self._turns.take():
            return []
        # Without a free slot, the poll only tells the server that the queues have a worker.
        if self.limiter.available_tokens and not await self._one_is_due():
            return []
        return await self._take_runs()

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """See BaseWorker."""
        try:
            return await super().run(*args, **kwargs)  # pyright: ignore[reportAbstractUsage]
        finally:
            self._request_poll(0)  # the slot is free now

    async def _one_is_due(self) -> bool:
        """Whether a run is due now. For each that is due before the next regular poll, another poll
        is requested, for then."""
        # The moment until which Prefect's own poll takes runs.
        prefetch = timedelta(seconds=PREFECT_WORKER_PREFETCH_SECONDS.value())
        now = self._clock.now() + prefetch
        until = datetime.now(UTC) + prefetch + timedelta(seconds=_AHEAD * self._interval)
        try:
            found = await self.client.get_scheduled_flow_runs_for_work_pool(
                self._pool, self._queues, scheduled_before=until
            )
        except ObjectNotFound:
            return False  # the pool is made at the next sync
        starts = (one.flow_run.next_scheduled_start_time or now for one in found)
        left = [(start - now).total_seconds() for start in starts]
        for seconds in left:
            if seconds > 0:
                asyncio.get_running_loop().call_later(seconds, self._on_event, _SCHEDULED)
        return any(seconds <= 0 for seconds in left)

    async def _take_runs(self) -> list[FlowRun]:
        async with self._polling:  # two polls at once would find the same runs
            return await super().get_and_submit_flow_runs()

    async def _count(self) -> None:
        self._counted = time.monotonic()
        online = WorkerFilter(status=WorkerFilterStatus(any_=["ONLINE"]))
        found = await self.client.read_workers_for_work_pool(
            self._pool, worker_filter=online, limit=PAGE
        )
        self._workers = max(1, len(found))
        self._limited = self.work_pool.concurrency_limit is not None

    async def _report_slots(self) -> None:
        """Report the number of this worker's slots, which Prefect does not report to the server."""
        assert self._slots is not None
        report = WorkerReport(
            pool=self._pool,
            worker=self.name,
            host=socket.gethostname(),
            slots=self._slots,
            offer=self._offer,
            is_fair=self._is_fair,
        )
        await put_variable(self.client, report.variable, report)
        self._slots_are_known = True

    def _on_event(self, event: str | None) -> None:
        within = _STAGGER * (self._workers - 1)
        if event == _TAKEN:
            self._not_taken = max(0, self._not_taken - 1)
            if not self._not_taken and self._for_runs_alone:
                self._due = float("inf")
        elif event in (_SCHEDULED, _RESUMED):
            self._not_taken += 1
            self._request_poll(within, for_a_run=True)
        elif event in (None, DRAIN_CHANGED) or self._limited or self._workers == 1:
            self._request_poll(within)

    def _request_poll(self, within: float, *, for_a_run: bool = False) -> None:
        """Request a poll at a random moment within `within` seconds."""
        self._for_runs_alone &= for_a_run
        self._due = min(self._due, time.monotonic() + random.uniform(0, within))
        self._requested.set()

    async def _poll_on_request(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            while (left := self._due - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._requested.wait(), None if left == float("inf") else left
                    )
                self._requested.clear()
            self._due, self._for_runs_alone = float("inf"), True
            if not self.limiter.available_tokens:
                continue  # the end of a job requests the next poll
            found = False
            with contextlib.suppress(httpx.HTTPError):  # the next regular poll reports it
                found = bool(await self._take_runs())
            if not found:
                self._not_taken = 0
            await asyncio.sleep(_AFTER_FOUND if found else _AFTER_EMPTY)
