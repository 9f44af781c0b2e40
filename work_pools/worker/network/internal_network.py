"""A Docker worker whose jobs' containers are in a network of their own."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import anyio.abc
import requests
from docker.errors import APIError, DockerException
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)
from pydantic import PrivateAttr

from tasks.errors import OperatorError, in_short
from tasks.settings import REACHED_VARIABLE
from work_pools.worker.containers.companion import keep
from work_pools.worker.containers.engine_broker import has_engine
from work_pools.worker.mixin import WorkerMixin
from work_pools.worker.network.job_network import NAME, JobNetwork, host_of

_CREDENTIALS = "PREFECTURE_S3_CREDENTIALS"  # in a job's environment
_FRESH = 60.0  # seconds for which an endpoint that the server has told counts
_AT_AWS = (
    "the block {name} has no endpoint, and the names of buckets at AWS are not known beforehand: "
    "set PREFECTURE_JOB_NETWORK=internal and list those that jobs use in PREFECTURE_JOB_HOSTS"
)
_log = logging.getLogger(__name__)


class InternalNetwork(WorkerMixin):
    """Puts the containers of jobs into a closed network.

    `network`: "open" to leave them in the network of Prefect's Docker worker; "internal" to refuse
    to start where this host cannot have the closed one; None to leave them there in that case.
    `reachable`: hosts that jobs may connect to besides the API and their S3, as HOST:PORT.
    `broker`: see EngineBroker; where there is none, a job that starts containers is left there too:
    it tells them the addresses of its own network.
    """

    def __init__(
        self, *args: Any, network: str | None, reachable: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._has_broker = kwargs.get("broker") is not None
        self._wanted = network
        self._reachable = reachable
        self._network: JobNetwork | None = None
        self._opening = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._endpoint_asked: dict[str, float] = {}  # when, by name of a block
        self._outside = set[str]()  # blocks whose S3 is not reached from inside

    async def setup(self) -> None:
        """See BaseWorker. Raises OperatorError, OSError, docker.errors.APIError."""
        if self._wanted != "open":
            self.job_configuration = _configuration_inside(self)
            try:
                await self._open()
            except (DockerException, requests.RequestException) as error:
                if isinstance(error, APIError):
                    raise
                _log.warning("the network of jobs is opened later: %s", in_short(error))
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

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        if self._wanted != "open":
            await self._open()
            await self._ask_for_endpoint(configuration.env.get(_CREDENTIALS))
            configuration.enter()
        return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]

    def network_of(self, configuration: DockerWorkerJobConfiguration) -> JobNetwork | None:
        """The closed network of a job; None where the job is in an open one."""
        outside = configuration.env.get(_CREDENTIALS) in self._outside
        without_broker = not self._has_broker and has_engine(configuration.volumes)
        return None if outside or without_broker else self._network

    async def _open(self) -> None:
        """Open the network, where that is not done. Raises as `setup`, and DockerException where
        the engine does not answer."""
        async with self._opening:
            if self._network is not None or self._wanted == "open":
                return
            network = JobNetwork(self.name, PREFECT_API_URL.value() or "", self._reachable)
            try:
                await asyncio.to_thread(network.open)
            except (OperatorError, OSError, APIError) as error:
                if self._wanted or isinstance(error, requests.RequestException):
                    raise
                self._wanted = "open"
                _leave_open("jobs", error)
                return
            self._network = network
            self._keeping = asyncio.create_task(keep(network.keep))

    async def _ask_for_endpoint(self, name: str | None) -> None:
        """Have jobs reach the S3 of a block of credentials, which the operator named there."""
        asked = self._endpoint_asked.get(name or "", -_FRESH)
        if self._network is None or name is None or time.monotonic() - asked < _FRESH:
            return
        kind, _, own = name.partition("/")
        try:
            block = await self.client.read_block_document_by_name(own, kind, include_secrets=False)
        except ObjectNotFound:
            return  # the job says so
        self._endpoint_asked[name] = time.monotonic()
        parameters: Any = block.data.get("aws_client_parameters") or {}
        endpoint: str | None = parameters.get("endpoint_url")
        try:
            if endpoint:
                await asyncio.to_thread(self._network.reach, host_of(urlsplit(endpoint)))
                self._outside.discard(name)
                return
            reason: Exception = OperatorError(_AT_AWS.format(name=name))
        except (OperatorError, OSError, ValueError, KeyError) as error:
            reason = error
        if self._wanted == "internal":
            if endpoint:
                _log.warning("jobs do not reach %s, of %s: %s", endpoint, name, reason)
        elif name not in self._outside:
            self._outside.add(name)
            _leave_open(f"jobs that use {name}", reason)


def _configuration_inside(worker: InternalNetwork) -> type[DockerWorkerJobConfiguration]:
    """The class of configurations of jobs whose containers are in the network of a worker."""

    class Inside(DockerWorkerJobConfiguration):
        _outside: dict[str, Any] | None = PrivateAttr(None)  # of its environment, in no network

        def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
            super().prepare_for_flow_run(*args, **kwargs)
            self.enter()

        def enter(self) -> None:
            """Take the network that the worker has for it by now."""
            created = dict(self.container_create_kwargs or {})
            if self._outside is not None:
                self.networks = []
                self.env = self.env | self._outside
                created.pop("dns", None)
                self._outside = None
            if network := worker.network_of(self):
                own = {
                    "PREFECT_API_URL": network.url,
                    REACHED_VARIABLE: ",".join(network.reachable),
                    # What people read in logs is to lead where it did.
                    "PREFECT_UI_URL": self.env.get("PREFECT_UI_URL") or network.ui,
                }
                self._outside = {name: self.env.get(name) for name in own}
                self.networks = [NAME]
                self.env = self.env | own
                # The engine's own answers, for names that it does not know, come from outside.
                created["dns"] = [network.gateway]
            self.container_create_kwargs = created

        def get_extra_hosts(self, docker_client: Any) -> dict[str, str] | None:
            network = worker.network_of(self)
            return network.hosts if network else super().get_extra_hosts(docker_client)

    return Inside


def _leave_open(jobs: str, reason: Exception) -> None:
    said = reason if isinstance(reason, OperatorError) else in_short(reason)
    _log.warning(
        "%s have an open network: %s; PREFECTURE_JOB_NETWORK=open says that this is wanted",
        jobs,
        said,
    )
