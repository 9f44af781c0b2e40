"""The closed network of the containers of a worker's jobs, and the relay that leads out of it."""

import ipaddress
import os
import zlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import docker
from docker.errors import APIError

from tasks.errors import OperatorError
from work_pools.worker.containers.companion import Companion

NAME = "prefecture-jobs"
"""The network's name in the engine: one for all workers of a host."""
_HOST = "host.docker.internal"  # by which our server is known in containers
_PORTS = {"http": 80, "https": 443}
_FIRST_PORT, _SO_MANY = 20_000, 10_000
_CONFLICT = 409  # of the engine: it exists


class JobNetwork:
    """The network of one worker's jobs.

    `worker`: its name; `api`: the address of the Prefect API; `reachable`: further hosts that jobs
    may connect to, as HOST:PORT.
    """

    def __init__(self, worker: str, api: str, reachable: Sequence[str]) -> None:
        self._api = urlsplit(api)
        self._port = _FIRST_PORT + zlib.crc32(worker.encode()) % _SO_MANY
        self._reachable = reachable
        self._worker = worker
        self._relay = Companion("work_pools.worker.network.relay", "relay for the network of jobs")
        self.gateway = ""
        """The address of this host in the network."""

    def open(self, client: docker.DockerClient) -> None:
        """Create the network, where there is none, and start the relay.

        Raises OperatorError where the API cannot be reached from inside, OSError where the relay
        cannot listen, docker.errors.APIError.
        """
        if self._api.scheme == "https" and _is_address(self._api.hostname or ""):
            raise OperatorError(
                f"PREFECT_API_URL has the address {self._api.hostname}: name the server as its "
                "certificate does, or leave PREFECTURE_JOB_NETWORK out"
            )
        api: Any = client.api  # its stubs leave most of its methods untyped
        try:
            api.create_network(
                NAME,
                driver="bridge",
                check_duplicate=True,
                internal=True,
                # Containers cannot connect to each other.
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"prefecture": "network"},
            )
        except APIError as error:
            if error.status_code != _CONFLICT:
                raise
        found: dict[str, Any] = api.inspect_network(NAME)
        self.gateway = str(found["IPAM"]["Config"][0]["Gateway"])
        self.keep_relay()

    def keep_relay(self) -> None:
        """Start the relay, where it does not run. Raises OSError where it cannot listen."""
        api = f"{self._api.hostname}:{self._api.port or _PORTS[self._api.scheme]}"
        port = self._relay.start(
            [self.gateway, str(self._port), str(os.getpid()), api, *self._reachable]
        )
        if port is not None:
            self._port = int(port)

    def close(self) -> None:
        """End the relay, unless a job needs it."""
        self._relay.end_unless_needed(self._worker)

    @property
    def url(self) -> str:
        """The address of the API inside the network."""
        name = self._api.hostname or ""
        host = _HOST if _is_address(name) else name
        return urlunsplit(self._api._replace(netloc=f"{host}:{self._port}"))

    @property
    def ui(self) -> str:
        """The address of the UI, outside."""
        return urlunsplit(self._api).removesuffix("/").removesuffix("/api")

    @property
    def hosts(self) -> dict[str, str]:
        """The addresses of all names that jobs can connect to."""
        names = [urlsplit(self.url).hostname or ""]
        names += [one.rpartition(":")[0] for one in self._reachable]
        return dict.fromkeys(names, self.gateway)


def _is_address(host: str) -> bool:
    """Whether a host is given as an address, or is this one: a certificate has other names."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
