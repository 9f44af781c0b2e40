"""A worker that keeps fork servers, in containers or as processes, on standby for its jobs."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, Protocol
from uuid import UUID

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseWorker, BaseWorkerResult

from tasks.errors import in_short
from work_pools.standby import NO_RUN

if TYPE_CHECKING:
    _Base = BaseWorker[Any, Any, Any]
else:
    _Base = object

_LATER = 0.5  # seconds: what has just been handed a run comes first
_NOW_AND_THEN = 5.0  # seconds between two looks at what waits: the pool's template may be another
_MOST_AT_ONCE = 1024  # jobs that one worker follows
_log = logging.getLogger(__name__)


class Waiting(Protocol):
    """The standby instances of one worker. Every method blocks; any thread may call."""

    errors: tuple[type[Exception], ...]
    """What the methods raise where the host refuses, or is away."""

    def take(self, configuration: Any, run: UUID) -> str | None:
        """Hand a run to one that waits, or that is started for it, where that costs less than
        Prefect's way. Returns its id; None where the run is to be started in Prefect's way.

        Raises one of `errors` where it cannot be known whether it has the run: it bears the run's
        name then, and the supervisor finds it by that.
        """
        ...

    def identifier_of(self, taken: str) -> str:
        """What Prefect's worker calls it."""
        ...

    def follow(self, taken: str) -> int:
        """Wait for the end of one that was handed a run. Returns its exit code."""
        ...

    def keep(self, configuration: Any) -> bool:
        """Put away what serves no such configuration any more, and start one where one is missing.
        Returns whether another is."""
        ...

    def remove_left(self, worker: str) -> None:
        """Remove what an earlier process of this worker has left waiting."""
        ...

    def close(self) -> None:
        """End all that wait."""
        ...


class StandbyWorker(_Base):
    """Makes any of Prefect's workers hand a run to an instance that `waiting` keeps on standby.

    A run with the pool's own configuration, which its job variables do not change, is handed to a
    fork server: it has imported by then what a job imports. Any other starts anew, in the way of
    `waiting` or in Prefect's. `waiting`: None to keep none.
    """

    ended: ClassVar[type[BaseWorkerResult]]
    """What the worker's `run` returns."""

    def __init__(self, *args: Any, waiting: Waiting | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = waiting
        self._taken = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        # Not asyncio's own threads: they are six on two cores, and each job here takes one until
        # it ends. The seventh would wait for the first's end.
        self._followers = ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="follow")

    async def setup(self) -> None:
        """See BaseWorker."""
        await super().setup()
        if self._waiting:
            self._keeping = asyncio.create_task(self._keep(self._waiting))

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        if self._keeping:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        try:
            await super().teardown(*exc_info)
        finally:
            if self._waiting:
                await self._close(self._waiting)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        waiting, taken = self._waiting, None
        if waiting:
            taken = await asyncio.to_thread(waiting.take, configuration, flow_run.id)
            self._taken.set()
        if waiting is None or taken is None:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        identifier = waiting.identifier_of(taken)
        if task_status is not None:
            task_status.started(identifier)
        code = await asyncio.wrap_future(self._followers.submit(waiting.follow, taken))
        return self.ended(status_code=code, identifier=identifier)

    async def _close(self, waiting: Waiting) -> None:
        try:
            await asyncio.to_thread(waiting.close)
        except waiting.errors as error:
            _log.info("what waits for jobs ends by itself: %s", error)

    async def _keep(self, waiting: Waiting) -> None:
        first = True
        while True:
            try:
                if first:
                    await asyncio.to_thread(waiting.remove_left, self.name)
                    first = False
                usual = await self._usual()
                while usual and await asyncio.to_thread(waiting.keep, usual):
                    pass
            except Exception as error:  # noqa: BLE001  # jobs start cold meanwhile, and it goes on
                _log.warning("no standby for now: %s", in_short(error))
            try:
                await asyncio.wait_for(self._taken.wait(), _NOW_AND_THEN)
                self._taken.clear()
                await asyncio.sleep(_LATER)
            except TimeoutError:
                continue

    async def _usual(self) -> Any:
        """What a run that asks for nothing of its own starts as; None before it is known."""
        try:
            pool = self.work_pool
        except RuntimeError:
            return None
        usual = await self.job_configuration.from_template_and_values(
            base_job_template=pool.base_job_template, values={}, client=self.client
        )
        nobody = FlowRun(id=NO_RUN, flow_id=NO_RUN, name="standby")
        usual.prepare_for_flow_run(
            nobody, work_pool=pool, worker_name=self.name, worker_id=self.backend_id
        )
        return usual
