"""A worker that gives each job in ECS a size that Fargate has."""

from typing import Any

import anyio.abc
from prefect.client.schemas.objects import FlowRun

from tasks.contracts import fargate_size, size_in_bytes
from work_pools.worker.mixin import WorkerMixin

_BILLION = 1_000_000_000


class Sizes(WorkerMixin):
    """Makes Prefect's ECS worker read memory and CPUs as the other pools do: the pool's template
    has `mem_limit` and `nano_cpus` in the place of the units of ECS."""

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker. Raises ValueError where Fargate has no such size."""
        asked: dict[str, Any] = configuration.task_run_request["overrides"]
        size = fargate_size(int(asked["cpu"]) / _BILLION, size_in_bytes(asked["memory"]))
        asked |= {"cpu": str(size.cpu), "memory": str(size.memory)}
        return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
