"""A worker that follows each job in ECS to its end."""

import asyncio
import logging
from collections import defaultdict
from typing import Any

import anyio.abc
from prefect.client.schemas.objects import FlowRun

from tasks.errors import in_short
from tasks.prefect_api.ecs import ECS_PAGE, container_of, has_ended
from work_pools.worker.mixin import WorkerMixin

_LOOK = 3.0  # seconds between two looks at the tasks that run
_log = logging.getLogger(__name__)


class Following(WorkerMixin):
    """Makes Prefect's ECS worker hold a job's slot until its task has ended.

    Otherwise it holds the slot until the task is created, and would start all waiting jobs at once.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ends = _Ends()

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        try:
            await super().teardown(*exc_info)  # which waits for those that run
        finally:
            self._ends.close()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        result: Any = await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        cluster, _, arn = str(result.identifier).partition("::")
        client = await asyncio.to_thread(configuration.aws_credentials.get_client, "ecs")
        result.status_code = await self._ends.wait(client, cluster, arn)
        return result


class _Ends:
    """Waits for the ends of tasks, with one request for many of them."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Any, str], dict[str, asyncio.Future[int]]] = defaultdict(dict)
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, client: Any, cluster: str, arn: str) -> int:
        """Wait for the end of a task. Returns its exit code; 0 where there is none: why it ended
        then is for the supervisor to find out."""
        end = asyncio.get_running_loop().create_future()
        self._waiting[client, cluster][arn] = end
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            return await end
        finally:
            self._waiting[client, cluster].pop(arn, None)

    def close(self) -> None:
        """Wait for none of them any more."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while any(self._waiting.values()):
            await asyncio.sleep(_LOOK)
            for (client, cluster), ends in list(self._waiting.items()):
                arns = sorted(ends)
                for start in range(0, len(arns), ECS_PAGE):
                    some = arns[start : start + ECS_PAGE]
                    try:
                        answer = await asyncio.to_thread(
                            client.describe_tasks, cluster=cluster, tasks=some
                        )
                    except Exception as error:  # noqa: BLE001  # of any kind: asked again
                        _log.warning("ECS does not say what runs: %s", in_short(error))
                        continue
                    tasks: list[dict[str, Any]] = answer["tasks"]
                    alive = {task["taskArn"] for task in tasks if not has_ended(task)}
                    codes = {
                        task["taskArn"]: int(container_of(task).get("exitCode") or 0)
                        for task in tasks
                    }
                    for arn in {*some} - alive:  # one that ECS has forgotten, too
                        if arn in ends and not ends[arn].done():
                            ends[arn].set_result(codes.get(arn, 0))
