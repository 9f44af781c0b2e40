"""A Docker worker whose jobs have the socket of a broker beside it, not the engine's."""

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_URL
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import ENGINE_FOLDER
from tasks.settings import AUTH_VARIABLE, client_environment, make_private_folder
from work_pools.worker.containers.companion import Companion, keep
from work_pools.worker.mixin import WorkerMixin


class EngineBroker(WorkerMixin):
    """Mounts the socket of a broker where a job's configuration has the engine's.

    `broker`: the folder of that socket; None to leave the engine's own there.
    """

    def __init__(self, *args: Any, broker: Path | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder = broker
        self._broker: Companion | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        """See BaseWorker. Raises OSError where the broker does not start."""
        if self._folder is not None:
            # It asks the server with the tokens of jobs, and needs no password.
            environment = client_environment(PREFECT_API_URL=PREFECT_API_URL.value() or "")
            for secret in (AUTH_VARIABLE, "PREFECT_API_KEY"):
                environment.pop(secret, None)
            broker = Companion(
                "tasks.containers.broker", "broker of the Docker engine", environment
            )
            start = partial(_start, broker, self._folder, self.name)
            await asyncio.to_thread(start)
            self._broker = broker
            self.job_configuration = configuration_with(self._folder, self.job_configuration)
            self._keeping = asyncio.create_task(keep(start))
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        try:
            await super().teardown(*exc_info)
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
            if self._broker is not None:
                await asyncio.to_thread(self._broker.end_unless_needed, self.name)


def has_engine(volumes: Iterable[str]) -> bool:
    """Whether a job with these volumes has the engine's socket, or the broker's."""
    return any(volume.split(":")[1].startswith(ENGINE_FOLDER) for volume in volumes)


def configuration_with(
    folder: Path, usual: type[DockerWorkerJobConfiguration]
) -> type[DockerWorkerJobConfiguration]:
    """The class of configurations that mount a broker's folder in place of the engine's socket."""

    class WithBroker(usual):
        def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
            super().prepare_for_flow_run(*args, **kwargs)
            if has_engine(self.volumes):
                others = [volume for volume in self.volumes if not has_engine([volume])]
                self.volumes = [*others, f"{folder}:{ENGINE_FOLDER}:ro"]
                # The group of the engine's socket would only be of use to an attacker.
                without: dict[str, Any] = {"group_add": []}
                self.container_create_kwargs = (self.container_create_kwargs or {}) | without

    return WithBroker


def _start(broker: Companion, folder: Path, worker: str) -> None:
    if broker.is_running:
        return
    make_private_folder(folder.parent)  # only the engine, which is root, passes through it
    folder.mkdir(exist_ok=True)
    broker.start([str(folder), str(os.getpid()), worker])
