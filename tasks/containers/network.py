"""Networks for users' containers: none, or the internet without private addresses."""

import asyncio
import ctypes
import fcntl
import ipaddress
import socket
import struct
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import APIError
from docker.types import LogConfig

from tasks.containers import user_container
from tasks.containers.engine import api, engine_call
from tasks.containers.user_container import Owner
from tasks.errors import EngineUnavailable
from tasks.settings import api_url

NONE = "none"
_NETWORK = "prefecture-containers"
_MEMORY = 64 * 2**20  # bytes
_PIDS = 16
_SIOCGIFCONF = 0x8912  # netdevice(7): the names and IPv4 addresses of all interfaces
_INTERFACE = "16sHH4s16x"  # struct ifreq on 64 bits: name, family, port, address
_MOST_ADDRESSES = 4096
# Addresses of this host, its private networks and its cloud provider: RFC 6890.
_INSIDE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15"),
)


@asynccontextmanager
async def networks(
    client: docker.DockerClient, owner: Owner, wanted: str, count: int = 1
) -> AsyncGenerator[list[str]]:
    """The network modes, in the engine's terms, of a job's containers; the first is also a build's.

    For `bridge` each is the network of a helper container, removed at the end, whose routes bar
    private and link-local addresses, the host, other containers and the API; of name servers all
    ports but 53. A container has the host name, address and ports of its own helper. Raises
    InvalidPayload where the engine refuses, EngineUnavailable.
    """
    if wanted == NONE:
        yield [NONE] * count
        return
    subnet, gateway = await asyncio.to_thread(_ensure_network, client)
    starts = (
        asyncio.to_thread(_hold, client, owner, subnet, gateway, number)
        for number in range(1, count + 1)
    )
    made = await asyncio.gather(*starts, return_exceptions=True)
    holders = [one for one in made if isinstance(one, str)]
    try:
        for one in made:
            if isinstance(one, BaseException):
                raise one
        yield [f"container:{holder}" for holder in holders]
    finally:
        for holder in holders:
            await asyncio.to_thread(user_container.remove, client, holder)


def _hold(
    client: docker.DockerClient,
    owner: Owner,
    subnet: ipaddress.IPv4Network,
    gateway: str,
    number: int,
) -> str:
    servers = [f"{server}/32" for server in _name_servers(Path("/etc/resolv.conf"))]
    barred = [*_INSIDE, *map(str, subnet.subnets()), *servers]
    barred += [f"{a}/32" for a in sorted({*_addresses_of_the_api(), *_addresses_of_this_host()})]
    with engine_call("the network cannot be created"):
        host = api(client).create_host_config(
            network_mode=_NETWORK,
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mem_limit=_MEMORY,
            memswap_limit=_MEMORY,
            pids_limit=_PIDS,
            log_config=LogConfig(type=LogConfig.types.NONE),
        )
        made = api(client).create_container(
            own_image(client, owner),
            command=[
                *("python", "-m", "tasks.containers.routes"),
                *(gateway, ",".join(barred), ",".join(servers)),
            ],
            user="0:0",
            labels=owner.labels,
            name=f"prefecture-network-{owner.run}-{number}",
            # The engine gives it to each container that shares this network.
            hostname=owner.hostname(number),
            host_config=host,
        )
    id = str(made["Id"])
    try:
        with engine_call("the network cannot be created"):
            printed = api(client).attach(id, stdout=True, stderr=True, stream=True)
            api(client).start(id)
        said = b""
        for piece in printed:
            said += piece
            if said.endswith(b"ready\n"):
                return id
        # Without these routes private addresses could be reached: then there is no network.
        raise EngineUnavailable(f"no network for the container: {said.decode()[-300:]}")
    except BaseException:
        user_container.remove(client, id)
        raise


def _ensure_network(client: docker.DockerClient) -> tuple[ipaddress.IPv4Network, str]:
    with engine_call("the network cannot be created"):
        try:
            api(client).create_network(
                _NETWORK,
                driver="bridge",
                check_duplicate=True,
                options={"com.docker.network.bridge.enable_icc": "false"},
                labels={"prefecture": "network"},
            )
        except APIError as error:
            if error.status_code != 409:  # 409: it exists
                raise
        found: dict[str, Any] = api(client).inspect_network(_NETWORK)
    config: dict[str, str] = found["IPAM"]["Config"][0]
    return ipaddress.IPv4Network(config["Subnet"]), config["Gateway"]


def own_image(client: docker.DockerClient, owner: Owner) -> str:
    """The image id of the flow's own container, which has the program that sets routes."""
    labels = ["prefecture=job", f"io.prefect.flow-run-id={owner.run}"]
    found: list[dict[str, Any]] = api(client).containers(all=True, filters={"label": labels})
    if not found:
        raise EngineUnavailable("the engine does not list the container of this flow")
    return str(found[0]["ImageID"])


def _addresses_of_the_api() -> Iterable[str]:
    name = urlsplit(api_url() or "").hostname
    if name is None:
        return []
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)}
    # Not a loopback address: each container has its own.
    return [a for a in found if not ipaddress.ip_address(a).is_loopback]


def _addresses_of_this_host() -> list[str]:
    """The IPv4 addresses of the network that the flow's container has: that of its host."""
    size = struct.calcsize(_INTERFACE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        buffer = ctypes.create_string_buffer(size * _MOST_ADDRESSES)
        wanted = struct.pack("iP", len(buffer), ctypes.addressof(buffer))
        (used, _) = struct.unpack("iP", fcntl.ioctl(any_socket, _SIOCGIFCONF, wanted))
    found = [ipaddress.ip_address(a) for *_, a in struct.iter_unpack(_INTERFACE, buffer.raw[:used])]
    return [str(address) for address in found if not address.is_loopback]


def _name_servers(path: Path) -> list[str]:
    """The IPv4 name servers of a resolv.conf, without loopback addresses."""
    servers: list[str] = []
    for line in path.read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1]:
            address = ipaddress.IPv4Address(words[1])
            if not address.is_loopback:
                servers.append(words[1])
    return servers
