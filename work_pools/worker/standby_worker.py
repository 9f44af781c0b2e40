"""A worker with standby fork servers, in containers or as processes, for its jobs."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Protocol
from uuid import UUID

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.workers.base import BaseWorkerResult

from tasks.errors import in_short
from work_pools.standby import NO_RUN
from work_pools.worker.mixin import WorkerMixin

_DELAY = 0.5  # seconds before a replacement starts: the run that has just started comes first
_INTERVAL = 5.0  # seconds between two checks of the standbys: the pool's template may change
_MAX_JOBS = 1024  # jobs at once that one worker follows
_log = logging.getLogger(__name__)


class StandbyManager(Protocol):
    """Manages the standby instances of one worker. Methods block, and are thread-safe."""

    errors: tuple[type[Exception], ...]
    """Errors of the methods where the host or the engine refuses, or does not answer."""

    def take(self, configuration: Any, run: UUID) -> str | None:
        """Give a run to a standby instance, or to a new one where Prefect's worker is slower.

        Returns the instance's id; None where Prefect's worker is to start the run. Raises one of
        `errors` where it is unknown whether the instance has the run. The instance then carries the
        run's id, by which the supervisor finds it.
        """
        ...

    def identifier_of(self, instance: str) -> str:
        """The infrastructure identifier that Prefect's worker reports for an instance."""
        ...

    def follow(self, instance: str) -> int:
        """Wait for the end of an instance's run. Returns its exit code."""
        ...

    def replenish(self, configuration: Any) -> bool:
        """Remove instances that do not fit the configuration, and start a missing one.

        Returns whether more are missing.
        """
        ...

    def remove_leftovers(self, worker: str) -> None:
        """Remove the idle instances of an earlier process of this worker."""
        ...

    def close(self) -> None:
        """End all idle instances."""
        ...


class StandbyWorker(WorkerMixin):
    """Makes any of Prefect's workers give runs to the standby instances of `standbys`.

    A run with the pool's default configuration goes to a standby fork server, which has already
    imported the libraries of jobs. Any other run gets a new process or container, from `standbys`
    or from Prefect's worker. `standbys`: None for no standby instances.
    """

    result_type: ClassVar[type[BaseWorkerResult]]
    """The type of result of the worker's `run`."""

    def __init__(self, *args: Any, standbys: StandbyManager | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._standbys = standbys
        self._assigned = asyncio.Event()
        self._replenishing: asyncio.Task[None] | None = None
        # Not asyncio's own threads, of which there are six on two cores: each job holds a thread
        # until it ends, and the seventh job would wait.
        self._followers = ThreadPoolExecutor(_MAX_JOBS, thread_name_prefix="follow")

    async def setup(self) -> None:
        """See BaseWorker."""
        await super().setup()
        if self._standbys:
            self._replenishing = asyncio.create_task(self._replenish(self._standbys))

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        if self._replenishing:
            self._replenishing.cancel()
            await asyncio.gather(self._replenishing, return_exceptions=True)
        try:
            await super().teardown(*exc_info)
        finally:
            if self._standbys:
                await self._close(self._standbys)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        standbys, instance = self._standbys, None
        if standbys:
            instance = await asyncio.to_thread(standbys.take, configuration, flow_run.id)
            self._assigned.set()
        if standbys is None or instance is None:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        identifier = standbys.identifier_of(instance)
        if task_status is not None:
            task_status.started(identifier)
        code = await asyncio.wrap_future(self._followers.submit(standbys.follow, instance))
        return self.result_type(status_code=code, identifier=identifier)

    async def _close(self, standbys: StandbyManager) -> None:
        try:
            await asyncio.to_thread(standbys.close)
        except standbys.errors as error:
            _log.info("standby instances are not removed, they exit by themselves: %s", error)

    async def _replenish(self, standbys: StandbyManager) -> None:
        first = True
        while True:
            try:
                if first:
                    await asyncio.to_thread(standbys.remove_leftovers, self.name)
                    first = False
                usual = await self._usual()
                while usual and await asyncio.to_thread(standbys.replenish, usual):
                    pass
            except Exception as error:  # noqa: BLE001  # retried; meanwhile jobs start cold
                _log.warning("no standby for now: %s", in_short(error))
            try:
                await asyncio.wait_for(self._assigned.wait(), _INTERVAL)
                self._assigned.clear()
                await asyncio.sleep(_DELAY)
            except TimeoutError:
                continue

    async def _usual(self) -> Any:
        """The configuration of a run without job variables; None before the pool is known."""
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
