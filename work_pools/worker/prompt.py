"""A worker that looks for runs when there may be one, and not only each so often."""

import asyncio
import contextlib
import random
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.client.schemas.filters import WorkerFilter, WorkerFilterStatus
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_WORKER_QUERY_SECONDS
from prefect.workers.base import BaseWorker

from tasks.contracts import WorkerReport
from tasks.prefect_api.pages import PAGE
from work_pools.listening import listen
from work_pools.turns import Turns

if TYPE_CHECKING:
    _Base = BaseWorker[Any, Any, Any]
else:
    _Base = object

_SCHEDULED = "prefect.flow-run.Scheduled"
_TAKEN = "prefect.flow-run.Pending"  # by whichever worker
# The pool may have a slot more, whose holder ends a moment later.
_ENDED = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled")]
_APART = 0.05  # seconds between two looks that are asked for
_IN_VAIN = 0.3  # after one that found nothing: thousands of runs may be submitted to a paused pool
_AGAIN = 5.0  # seconds before events are asked for again
_SPREAD = 0.02  # seconds a worker: within so many do all look that have heard of the same run
_FEW = 4  # workers which all look into the queues as often as they were told
_COUNTED = 60.0  # seconds between two times that the pool's workers are counted


class Prompt(_Base):
    """Makes any of Prefect's workers look at once when a run is submitted or a slot is free.

    What it does not hear of, it finds as before, at its next look. Where the pool has many workers,
    they look in turn, and those that hear of a run do not ask for it all in the same moment: the
    first has told the others that it is taken.
    """

    def __init__(self, *args: Any, work_pool_name: str, **kwargs: Any) -> None:
        super().__init__(*args, work_pool_name=work_pool_name, **kwargs)
        self._pool = work_pool_name
        self._slots: int | None = kwargs.get("limit")
        self._slots_are_known = self._slots is None
        self._workers = 1
        self._counted = -_COUNTED
        self._limited = False  # whether the pool's slots are fewer than those of its workers
        self._turns = Turns(PREFECT_WORKER_QUERY_SECONDS.value(), lambda: self._workers, _FEW)
        self._asked = asyncio.Event()
        self._due = float("inf")  # when to look
        self._for_runs_alone = True  # whether it is asked for nothing else
        self._not_taken = 0  # runs that were heard of
        self._one_look = asyncio.Lock()
        self._beside: list[asyncio.Task[None]] = []

    async def setup(self) -> None:
        """See BaseWorker."""
        await super().setup()
        names = [_SCHEDULED, _TAKEN, *_ENDED]
        heard = listen(self._pool, names, self._hear, _AGAIN)
        self._beside = [asyncio.create_task(each) for each in (self._look(), heard)]

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await super().teardown(*exc_info)

    async def sync_with_backend(self) -> None:
        """See BaseWorker."""
        await super().sync_with_backend()
        if time.monotonic() - self._counted >= _COUNTED:
            with contextlib.suppress(httpx.HTTPError):  # as many as there were before
                await self._count()
        if not self._slots_are_known:
            with contextlib.suppress(httpx.HTTPError):  # at the next time, then
                await self._report_slots()

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker, whose loop calls it each so often: in turn with the other workers."""
        return await self._take_runs() if self._turns.take() else []

    async def run(self, *args: Any, **kwargs: Any) -> Any:
        """See BaseWorker."""
        try:
            return await super().run(*args, **kwargs)  # pyright: ignore[reportAbstractUsage]
        finally:
            self._ask(0)  # the slot is free before anything else can happen

    async def _take_runs(self) -> list[FlowRun]:
        async with self._one_look:  # two would see the same runs
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
        """Say how many jobs run here at once, which the server is told by nobody else."""
        assert self._slots is not None
        report = WorkerReport(pool=self._pool, worker=self.name, slots=self._slots)
        value = report.model_dump(mode="json")
        try:
            await self.client.update_variable(VariableUpdate(name=report.variable, value=value))
        except httpx.HTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            await self.client.create_variable(VariableCreate(name=report.variable, value=value))
        self._slots_are_known = True

    def _hear(self, event: str | None) -> None:
        within = _SPREAD * (self._workers - 1)
        if event == _TAKEN:
            self._not_taken = max(0, self._not_taken - 1)
            if not self._not_taken and self._for_runs_alone:
                self._due = float("inf")
        elif event == _SCHEDULED:
            self._not_taken += 1
            self._ask(within, for_a_run=True)
        elif event is None or self._limited or self._workers == 1:
            self._ask(within)

    def _ask(self, within: float, *, for_a_run: bool = False) -> None:
        """Have a look taken within so many seconds."""
        self._for_runs_alone &= for_a_run
        self._due = min(self._due, time.monotonic() + random.uniform(0, within))
        self._asked.set()

    async def _look(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            while (left := self._due - time.monotonic()) > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._asked.wait(), None if left == float("inf") else left
                    )
                self._asked.clear()
            self._due, self._for_runs_alone = float("inf"), True
            if not self.limiter.available_tokens:
                continue  # the end of a job asks again
            found = False
            with contextlib.suppress(httpx.HTTPError):  # the next look of its own says so
                found = bool(await self._take_runs())
            if not found:
                self._not_taken = 0
            await asyncio.sleep(_APART if found else _IN_VAIN)
