"""The two workers: Prefect's own of either type, prompt, and for containers with some ahead."""

import asyncio
import logging
import warnings
from typing import Any
from uuid import uuid4

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.workers.process import ProcessWorker
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorker,
    DockerWorkerJobConfiguration,
    DockerWorkerResult,
)

from work_pools.worker.prompt import Prompt
from work_pools.worker.waiting import ENGINE_ERRORS, WaitingContainers

_LATER = 0.5  # seconds: what has just been handed a run comes first
_NOW_AND_THEN = 5.0  # seconds between two looks at what waits: the pool's template may be another
_log = logging.getLogger(__name__)

with warnings.catch_warnings():
    # They take the place of those they extend, in this process: the pools stay of Prefect's types,
    # and Prefect's own workers can serve them beside ours.
    warnings.filterwarnings("ignore", "Type .* has key .* that matches", UserWarning)

    class PromptProcessWorker(Prompt, ProcessWorker):
        """Prefect's process worker."""

    class PromptDockerWorker(Prompt, DockerWorker):
        """Prefect's Docker worker, which keeps containers started ahead.

        A run whose configuration is the pool's own, its job variables change nothing of it, is
        handed to one that waits: it has imported by then what a job imports. It serves that one
        run, and is thrown away. Any other run starts as it always did.
        """

        def __init__(self, *args: Any, ahead: int = 0, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._ahead = ahead
            self._waiting = WaitingContainers(ahead)
            self._taken = asyncio.Event()

        async def setup(self) -> None:
            """See BaseWorker."""
            await super().setup()
            if self._ahead:
                self._beside.append(asyncio.create_task(self._keep()))

        async def teardown(self, *exc_info: Any) -> None:
            """See BaseWorker."""
            await super().teardown(*exc_info)
            try:
                await asyncio.to_thread(self._waiting.close)
            except ENGINE_ERRORS as error:
                _log.info("containers that wait end by themselves: %s", error)

        async def run(
            self,
            flow_run: FlowRun,
            configuration: DockerWorkerJobConfiguration,
            task_status: anyio.abc.TaskStatus[str] | None = None,
        ) -> DockerWorkerResult:
            """See BaseWorker."""
            container = None
            if self._ahead:
                container = await asyncio.to_thread(self._waiting.take, configuration, flow_run.id)
                self._taken.set()
            if container is None:
                return await super().run(flow_run, configuration, task_status)
            return await self._follow(container, task_status)

        async def _follow(
            self, container: str, task_status: anyio.abc.TaskStatus[str] | None
        ) -> DockerWorkerResult:
            identifier = f"{self._waiting.address}:{container}"
            if task_status is not None:
                task_status.started(identifier)
            try:
                code = await asyncio.to_thread(self._waiting.follow, container)
            finally:
                self._asked.set()
            return DockerWorkerResult(status_code=code, identifier=identifier)

        async def _keep(self) -> None:
            first = True
            while True:
                try:
                    if first:
                        await asyncio.to_thread(self._waiting.remove_left, self.name)
                        first = False
                    usual = await self._usual()
                    while usual and await asyncio.to_thread(self._waiting.keep, usual):
                        pass
                except ENGINE_ERRORS as error:
                    _log.warning("no container is started ahead for now: %s", error)
                try:
                    await asyncio.wait_for(self._taken.wait(), _NOW_AND_THEN)
                    self._taken.clear()
                    await asyncio.sleep(_LATER)
                except TimeoutError:
                    continue

        async def _usual(self) -> DockerWorkerJobConfiguration | None:
            """What a run that asks for nothing of its own starts as; None before it is known."""
            try:
                pool = self.work_pool
            except ValueError:
                return None
            usual = await self.job_configuration.from_template_and_values(
                base_job_template=pool.base_job_template, values={}, client=self.client
            )
            nobody = FlowRun(flow_id=uuid4(), name="ahead")
            usual.prepare_for_flow_run(
                nobody, work_pool=pool, worker_name=self.name, worker_id=self.backend_id
            )
            return usual
