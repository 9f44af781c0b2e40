"""A Docker worker whose jobs' containers are in a network of their own."""

import asyncio
from typing import Any

import docker
from prefect.settings import PREFECT_API_URL
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from work_pools.worker.containers.companion import keep
from work_pools.worker.containers.engine_broker import has_engine
from work_pools.worker.containers.standby_container import ENGINE_TIMEOUT
from work_pools.worker.mixin import WorkerMixin
from work_pools.worker.network.job_network import NAME, JobNetwork


class InternalNetwork(WorkerMixin):
    """Puts the containers of jobs into a closed network, where `reachable` says so.

    `reachable`: hosts that jobs may connect to besides the API, as HOST:PORT; None to leave jobs in
    the network of Prefect's Docker worker. `broker`: see EngineBroker; where there is none, a job
    that starts containers is left there too: it tells them the addresses of its own network.
    """

    def __init__(self, *args: Any, reachable: list[str] | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_broker = kwargs.get("broker") is not None
        self._reachable = reachable
        self._network: JobNetwork | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def setup(self) -> None:
        """See BaseWorker. Raises OperatorError, OSError, docker.errors.APIError."""
        if self._reachable is not None:
            network = JobNetwork(self.name, PREFECT_API_URL.value() or "", self._reachable)
            await asyncio.to_thread(_open, network)
            self._network = network
            self.job_configuration = configuration_inside(network, has_broker=self._has_broker)
            self._keeping = asyncio.create_task(keep(network.keep_relay))
        await super().setup()

    async def teardown(self, *exc_info: Any) -> None:
        """See BaseWorker."""
        try:
            await super().teardown(*exc_info)
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
            if self._network is not None:
                await asyncio.to_thread(self._network.close)


def configuration_inside(
    network: JobNetwork, *, has_broker: bool
) -> type[DockerWorkerJobConfiguration]:
    """The class of configurations of jobs whose containers are in a network. `has_broker`: whether
    those that start containers are, too."""

    class Inside(DockerWorkerJobConfiguration):
        def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
            super().prepare_for_flow_run(*args, **kwargs)
            if self._is_inside():
                self.networks = [NAME]
                self.env["PREFECT_API_URL"] = network.url
                # What people read in logs is to lead where it did.
                self.env.setdefault("PREFECT_UI_URL", network.ui)
                # The engine's own answers, for names that it does not know, come from outside.
                self.container_create_kwargs = {
                    **(self.container_create_kwargs or {}),
                    "dns": [network.gateway],
                }

        def get_extra_hosts(self, docker_client: docker.DockerClient) -> dict[str, str] | None:
            if self._is_inside():
                return network.hosts
            return super().get_extra_hosts(docker_client)

        def _is_inside(self) -> bool:
            return has_broker or not has_engine(self.volumes)

    return Inside


def _open(network: JobNetwork) -> None:
    client = docker.from_env(timeout=ENGINE_TIMEOUT)
    try:
        network.open(client)
    finally:
        client.close()
