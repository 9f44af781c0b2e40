"""A Docker worker whose jobs have the socket of a broker beside it, not the engine's."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker
from prefect.settings import PREFECT_API_URL
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import ENGINE_FOLDER
from tasks.errors import in_short
from tasks.settings import AUTH_VARIABLE, client_environment, make_private_folder
from work_pools.worker.containers.standby_container import ENGINE_TIMEOUT
from work_pools.worker.mixin import WorkerMixin

_LOOK = 5.0  # seconds between two looks at the broker
_END = 10.0  # seconds
_WORKER = "io.prefect.worker-name"
_log = logging.getLogger(__name__)


class EngineBroker(WorkerMixin):
    """Mounts the socket of a broker where a job's configuration has the engine's.

    `broker`: the folder of that socket; None to leave the engine's own there.
    """

    def __init__(self, *args: Any, broker: Path | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._folder = broker
        self._broker: subprocess.Popen[str] | None = None
        self._looking: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        """See BaseWorker. Raises OSError where the broker does not start."""
        if self._folder is not None:
            await asyncio.to_thread(self._start, self._folder)
            self.job_configuration = configuration_with(self._folder, self.job_configuration)
            self._looking = asyncio.create_task(self._keep(self._folder))
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        try:
            await super().teardown(*exc_info)
        finally:
            if self._looking is not None:
                self._looking.cancel()
            if self._broker is not None and not await asyncio.to_thread(_has_jobs, self.name):
                self._broker.terminate()
                await asyncio.to_thread(self._broker.wait, _END)

    def _start(self, folder: Path) -> None:
        """Start the broker unless it runs."""
        if self._broker is not None and self._broker.poll() is None:
            return
        make_private_folder(folder.parent)  # only the engine, which is root, passes through it
        folder.mkdir(exist_ok=True)
        # It asks the server with the tokens of jobs, and needs no password.
        environment = client_environment(PREFECT_API_URL=PREFECT_API_URL.value() or "")
        for secret in (AUTH_VARIABLE, "PREFECT_API_KEY"):
            environment.pop(secret, None)
        self._broker = subprocess.Popen(
            [
                *(sys.executable, "-m", "tasks.containers.broker"),
                *(str(folder), str(os.getpid()), self.name),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            # A signal from the terminal is for the worker: its jobs need the broker to the end.
            start_new_session=True,
        )
        assert self._broker.stdout is not None
        with self._broker.stdout as said:
            if not said.readline():
                raise OSError("no broker of the Docker engine: the line above says why")

    async def _keep(self, folder: Path) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            try:
                await asyncio.to_thread(self._start, folder)
            except OSError as error:
                _log.warning("%s", in_short(error))


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


def _has_jobs(worker: str) -> bool:
    """Whether containers of a worker run; True where the engine does not say."""
    client = docker.from_env(timeout=ENGINE_TIMEOUT)
    try:
        return bool(client.containers.list(filters={"label": f"{_WORKER}={worker}"}))
    except Exception as error:  # noqa: BLE001  # then the broker ends by itself
        _log.info("the broker is left to end by itself: %s", in_short(error))
        return True
    finally:
        client.close()
