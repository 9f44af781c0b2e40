"""A worker that gives each job the GPUs that it asks for, and no two jobs the same one."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from uuid import UUID

import anyio.abc
from docker.types import DeviceRequest
from prefect.client.schemas.objects import FlowRun

from tasks.settings import GPUS_VARIABLE
from work_pools.worker.admission import Admission
from work_pools.worker.containers.engine_broker import has_engine

_CUDA = "CUDA_VISIBLE_DEVICES"
Assign = Callable[[Any, Sequence[str]], None]
"""Gives a job, by its configuration, the GPUs with these ids."""


class Gpus(Admission):
    """Makes any of Prefect's workers assign `gpus`, the ids of this host's, to jobs that ask.

    How a job gets them is the worker's: see `with_devices` and `with_variable`.
    """

    assign_gpus: ClassVar[Assign]

    def __init__(self, *args: Any, gpus: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gpus = gpus
        self._gpus_of: dict[UUID, Sequence[str]] = {}

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        count = self.asked_by(flow_run.id).gpus
        if not count:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        taken = {id for ids in self._gpus_of.values() for id in ids}
        free = [id for id in self._gpus if id not in taken]
        if len(free) < count:
            raise RuntimeError(f"{count} GPUs asked for, and {len(free)} are free on this host")
        self._gpus_of[flow_run.id] = free[:count]
        try:
            type(self).assign_gpus(configuration, free[:count])
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        finally:
            del self._gpus_of[flow_run.id]


def with_devices(configuration: Any, ids: Sequence[str]) -> None:
    """Give a container GPUs, as `docker run --gpus device=…` does.

    A task that starts containers gives them to those: it finds their ids in a variable.
    """
    configuration.env[GPUS_VARIABLE] = ",".join(ids)
    if has_engine(configuration.volumes):
        return
    wanted = DeviceRequest(device_ids=list(ids), capabilities=[["gpu"]])
    own = {"device_requests": [wanted]}
    configuration.container_create_kwargs = (configuration.container_create_kwargs or {}) | own


def with_variable(configuration: Any, ids: Sequence[str]) -> None:
    """Let a process use these GPUs; nothing keeps it from the others."""
    configuration.env[GPUS_VARIABLE] = configuration.env[_CUDA] = ",".join(ids)
