"""Networks for users' containers: none, or the internet without private addresses."""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError
from docker.types import LogConfig

from tasks.containers import user_container
from tasks.containers.barred import name_servers, route_arguments
from tasks.containers.engine import api, engine_call
from tasks.containers.user_container import Owner
from tasks.errors import EngineUnavailable

NONE = "none"
_NETWORK = "prefecture-containers"
_MEMORY = 64 * 2**20  # bytes
_PIDS = 16


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
    servers = name_servers(Path("/etc/resolv.conf").read_text())
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
                *route_arguments(subnet, gateway, servers),
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
