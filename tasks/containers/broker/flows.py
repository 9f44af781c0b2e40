"""The flows' own containers, from which the broker reads what the worker gave each run."""

import asyncio
import io
import ipaddress
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.containers.barred import name_servers, route_arguments
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.folders import Roots
from tasks.containers.broker.http import Refused
from tasks.containers.broker.runs import Run
from tasks.containers.broker.stages import stages_of
from tasks.containers.broker.templates import NETWORK, RUN_LABEL, WORKER_LABEL, Flow, written
from tasks.contracts import ENGINE_FOLDER

_RESOLV_CONF = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))


class Flows:
    """The containers of runs that have the broker's socket. `folder`: the broker's own."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine = engine
        self._folder = folder
        self._known: dict[UUID, Flow] = {}

    async def of(self, run: Run) -> Flow:
        """The container of a run, as it was first seen. Raises Refused where there is none."""
        return self._known.get(run.id) or await self.now(run)

    async def now(self, run: Run) -> Flow:
        """The same, read again: a run that was put back in its queue runs in another container.

        Each run asks for this before it reads anything of its user's. Raises Refused as `of` does.
        """
        labels = {"prefecture=job", f"{RUN_LABEL}={run.id}"}
        found = [one for one in await self._engine.listed(labels) if self._is_flow(one)]
        if not found:
            raise Refused(503, "the engine does not list the container of this flow")
        newest = max(found, key=lambda one: one["Created"])
        if (known := self._known.get(run.id)) is not None and known.id == newest["Id"]:
            return known
        status, details = await self._engine.ask("GET", f"/containers/{newest['Id']}/json")
        if status != 200:
            raise Refused(503, "the container of this flow is gone")
        given = (one.partition("=") for one in details["Config"]["Env"] or ())
        variables = {name: value for name, _, value in given}
        flow = Flow(
            id=details["Id"],
            image=details["Image"],
            user=details["Config"]["User"],
            variables=variables,
            worker=details["Config"]["Labels"].get(WORKER_LABEL, ""),
            stages=await asyncio.to_thread(stages_of, run, written(variables)),
        )
        self._known[run.id] = flow
        return flow

    async def tidy(self) -> None:
        """Forget the flows whose containers have been removed. Raises Refused."""
        known = dict(self._known)
        there = {one["Id"] for one in await self._engine.listed({"prefecture=job"})}
        for id, flow in known.items():
            if flow.id not in there:
                del self._known[id]

    def _is_flow(self, listed: dict[str, Any]) -> bool:
        """Whether it has the broker's socket, as only the worker can have it.

        Labels alone prove nothing: the container of a build step has those of its Dockerfile.
        """
        return any(
            mount["Destination"] == ENGINE_FOLDER and mount["Source"] == str(self._folder)
            for mount in listed["Mounts"]
        )

    def roots(self, flow: Flow) -> Roots:
        """The folders that a flow reads and writes."""
        return Roots(flow.inputs, flow.written, flow.stages, self._folder)

    async def routes(self, flow: Flow) -> list[str]:
        """The arguments of the program that sets the routes of a user's container.

        The name servers are those that the engine gave the flow, or would give to a container.
        """
        status, network = await self._engine.ask("GET", f"/networks/{NETWORK}")
        if status != 200:
            raise Refused(503, "there is no network for containers")
        config = network["IPAM"]["Config"][0]
        subnet = ipaddress.IPv4Network(config["Subnet"])
        query = {"path": "/etc/resolv.conf"}
        status, data = await self._engine.fetch("GET", f"/containers/{flow.id}/archive", query)
        if status != 200:
            raise Refused(503, "the name servers of this host cannot be read")
        servers = name_servers(_text(data)) or await asyncio.to_thread(servers_of_host)
        return await asyncio.to_thread(route_arguments, subnet, config["Gateway"], servers)


def servers_of_host(places: Sequence[Path] = _RESOLV_CONF) -> list[str]:
    """The name servers of this host, as the engine reads them: in a network with names of its own
    a flow sees the engine alone, and in the host's network systemd-resolved."""
    for place in places:
        if place.is_file() and (found := name_servers(place.read_text())):
            return found
    return []


def _text(archive: bytes) -> str:
    """The text of the one file in a tarball."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        file = tar.extractfile(member) if member is not None else None
        return file.read().decode(errors="replace") if file is not None else ""
