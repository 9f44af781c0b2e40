"""The closed network of the containers of a worker's jobs, and the relay that leads out of it."""

import ipaddress
import os
import socket
import zlib
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import docker
from docker.errors import APIError
from docker.types import IPAMConfig, IPAMPool

from tasks.errors import OperatorError
from work_pools.worker.containers.companion import Companion
from work_pools.worker.containers.standby_container import ENGINE_TIMEOUT

NAME = "prefecture-jobs"
"""The network's name in the engine: one for all workers of a host."""
_HOST = "host.docker.internal"  # by which this host is known in containers
_PORTS = {"http": 80, "https": 443}
_FIRST_PORT, _SO_MANY = 20_000, 10_000
_CONFLICT = 409  # of the engine: it exists
_IMAGES = "prefecture.image=job"  # label of images of jobs
_NAMES = ipaddress.IPv4Address("127.88.0.0")  # in a container, of hosts that jobs reach by name
_TRY = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)"


class JobNetwork:
    """The network of one worker's jobs.

    `worker`: its name; `api`: the address of the Prefect API; `reachable`: further hosts that jobs
    may connect to, as HOST:PORT.
    """

    def __init__(self, worker: str, api: str, reachable: Iterable[str]) -> None:
        self._api = urlsplit(api)
        self._port = _FIRST_PORT + zlib.crc32(worker.encode()) % _SO_MANY
        self._ports = dict.fromkeys(reachable, 0)  # of the relay, by host
        self._worker = worker
        self._relay = Companion(
            "work_pools.worker.network.relay", "relay for the network of jobs", listens=True
        )
        self._subnet = ""
        self.gateway = ""
        """The address of this host in the network."""

    def open(self) -> None:
        """Create the network, where there is none, and start the relay.

        Raises OperatorError where this host cannot have it, OSError where the relay cannot listen,
        docker.errors.DockerException.
        """
        if self._api.scheme == "https" and _is_address(self._api.hostname or ""):
            raise OperatorError(
                f"PREFECT_API_URL has the address {self._api.hostname}: name the server as its "
                "certificate does"
            )
        for host in self._ports:
            _check_name(host)
        client = docker.from_env(timeout=ENGINE_TIMEOUT)
        try:
            made = self._create(client)
            try:
                self._free_port()
                for host in self._ports:
                    self._ports[host] = self._free_port()
                self.keep()
                if made:
                    self._check_firewall(client)
            except (OperatorError, OSError):
                self._relay.end()
                if made:  # the next worker is to find out, too
                    client.networks.get(NAME).remove()
                raise
        finally:
            client.close()

    def reach(self, host: str) -> None:
        """Have jobs reach a further host, HOST:PORT, from now on.

        Raises OperatorError where they cannot, OSError where the relay does not run.
        """
        if host not in self._ports:
            _check_name(host)
            port = self._free_port()
            self._relay.tell(f"{host}={port}")
            self._ports[host] = port

    def keep(self) -> None:
        """Create the network anew where it was removed, and start the relay where it does not run.

        Raises OSError where the relay cannot listen, docker.errors.DockerException.
        """
        if not _has(self.gateway):  # removed by `docker network prune`, while no job was in it
            client = docker.from_env(timeout=ENGINE_TIMEOUT)
            try:
                before = self.gateway
                self._create(client)
            finally:
                client.close()
            if self.gateway != before:
                self._relay.end()
        api = host_of(self._api)
        port = self._relay.start(
            [
                f"{self.gateway}/{self._subnet.partition('/')[2]}",
                *(str(self._port), str(os.getpid()), api, *self.reachable),
            ]
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
        """The addresses of all names that jobs can connect to, in a container."""
        names = dict.fromkeys(map(_name_of, self._ports))
        at = {name: str(_NAMES + n) for n, name in enumerate(names, 1) if not _is_address(name)}
        return at | dict.fromkeys([_HOST, urlsplit(self.url).hostname or ""], self.gateway)

    @property
    def reachable(self) -> list[str]:
        """The hosts that jobs reach besides the API, as HOST:PORT=RELAY'S PORT."""
        return [f"{host}={port}" for host, port in self._ports.items()]

    def _create(self, client: docker.DockerClient) -> bool:
        """Create the network, at the address that it had. Returns whether there was none."""
        api: Any = client.api  # its stubs leave most of its methods untyped
        pools = [IPAMPool(subnet=self._subnet, gateway=self.gateway)] if self._subnet else []
        made = True
        try:
            api.create_network(
                NAME,
                driver="bridge",
                check_duplicate=True,
                internal=True,
                # Containers cannot connect to each other.
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"prefecture": "network"},
                ipam=IPAMConfig(pool_configs=pools) if pools else None,
            )
        except APIError as error:
            if error.status_code != _CONFLICT:
                raise
            made = False
        found: dict[str, Any] = api.inspect_network(NAME)
        if not found["Internal"]:
            raise OperatorError(
                f"the engine's network {NAME} leads outside: remove it (docker network rm {NAME})"
            )
        (config, *_) = found["IPAM"]["Config"]
        self.gateway, self._subnet = str(config["Gateway"]), str(config["Subnet"])
        return made

    def _free_port(self) -> int:
        """A port where the relay can listen. Raises OperatorError where it has none."""
        with socket.socket() as probe:
            try:
                probe.bind((self.gateway, 0))
            except OSError as error:
                raise OperatorError(
                    "the Docker engine is not in the network of this host, as where it is "
                    f"rootless or in a virtual machine: it has no address {self.gateway}"
                ) from error
            return int(probe.getsockname()[1])

    def _check_firewall(self, client: docker.DockerClient) -> None:
        """Raise OperatorError where a container in the network does not reach the relay."""
        images = client.images.list(filters={"label": _IMAGES})
        if not images:
            return
        run: Any = client.containers.run  # its stubs do not accept **arguments
        found: Any = run(
            str(images[0].id),
            ["python", "-c", _TRY, self.gateway, str(self._port)],
            network=NAME,
            detach=True,
        )
        try:
            if found.wait()["StatusCode"]:
                raise OperatorError(
                    "a container does not reach its host: let the firewall of this host accept "
                    f"connections from {self._subnet} to {self.gateway}"
                )
        finally:
            found.remove(force=True)


def host_of(address: SplitResult) -> str:
    """The HOST:PORT of an address. Raises KeyError, ValueError where it has no port."""
    return f"{address.hostname}:{address.port or _PORTS[address.scheme]}"


def _check_name(host: str) -> None:
    name = _name_of(host)
    if _is_address(name) and name != "localhost" and not ipaddress.ip_address(name).is_loopback:
        raise OperatorError(
            f"jobs cannot reach the address {host} from a closed network: give it a name, in "
            "/etc/hosts for example, and use the name"
        )


def _has(address: str) -> bool:
    """Whether this host has an address."""
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _name_of(host: str) -> str:
    return host.rpartition(":")[0]


def _is_address(host: str) -> bool:
    """Whether a host is given as an address, or is this one: a certificate has other names."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
