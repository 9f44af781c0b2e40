"""Requests about containers: to make those of the run's own job, and to follow and end them.

Labels, which the broker sets, say which job a container belongs to.
"""

import asyncio
import json
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasks.containers.broker import templates
from tasks.containers.broker.asked import Asked, filters
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.flows import Flows
from tasks.containers.broker.folders import secrets_volume
from tasks.containers.broker.http import Refused
from tasks.containers.broker.images import Images
from tasks.containers.broker.runs import Run
from tasks.containers.broker.templates import NETWORK, Flow, Kind, Wanted
from tasks.contracts import JOB_ID_LABEL, SECRETS_VOLUME, SIBLING_LABEL

ID = "([0-9a-f]{64})"
"""Pattern of the ids of containers."""
_READY = 30.0  # seconds in which the routes of a network are set
_MOST_SECRETS = 2**21  # bytes of an archive
_GONE = 404
_ENDING = ("removing", "dead")  # states of a container


@dataclass
class _Made:
    """A container that this broker has made."""

    run: UUID
    kind: Kind
    number: int
    held: ExitStack = field(default_factory=ExitStack)
    has_started: bool = False
    """Whether its start was asked for; known of those that hold a network."""

    @property
    def place(self) -> tuple[UUID, Kind, int]:
        """A run has one container of each at a time, whatever their names."""
        return self.run, self.kind, self.number


class Containers:
    """Answers requests about containers. `flows`: the flows' own ones; `images`: those to run."""

    def __init__(self, engine: Engine, flows: Flows, images: Images) -> None:
        self._engine = engine
        self._flows = flows
        self._images = images
        self._made: dict[str, _Made] = {}
        self._ready: set[str] = set()
        self._making: set[tuple[UUID, Kind, int]] = set()

    async def create(self, asked: Asked) -> None:
        """POST /containers/create."""
        asked.only({"name"})
        run, wanted = asked.run, await asked.parsed(Wanted)
        named = templates.named(asked.request.query.get("name"), run)
        flow = await self._flows.of(run)
        made = _Made(run.id, named.kind, named.number)
        if made.place in self._making:
            raise Refused(429, "such a container of this run is being made")
        self._making.add(made.place)
        try:
            body = await self._body(run, flow, wanted, named, made.held)
            await self._check_free(made)
            name = asked.request.query.get("name")
            query = {"name": name} if name else {}
            status, answer = await self._engine.ask("POST", "/containers/create", query, body)
            if status == 201:
                self._made[answer["Id"]] = made
            await asked.answer(status, answer)
        finally:
            self._making.discard(made.place)
            if made not in self._made.values():
                made.held.close()

    async def _check_free(self, wanted: _Made) -> None:
        for id in [id for id, one in self._made.items() if one.place == wanted.place]:
            status, details = await self._engine.ask("GET", f"/containers/{id}/json")
            if status == _GONE:
                self._forget(id)
            elif status != 200 or details["State"]["Status"] not in _ENDING:
                raise Refused(409, "this run has such a container: remove it first")

    async def _body(
        self, run: Run, flow: Flow, wanted: Wanted, named: templates.Named, held: ExitStack
    ) -> dict[str, Any]:
        own = templates.labels(run, flow, named.kind)
        if named.kind is Kind.NETWORK:
            self._may_have_network(run)
            arguments = await self._flows.routes(flow)
            return templates.network(run, flow, own, named.number, arguments)
        if named.kind is Kind.SECRETS:
            return templates.secrets(flow, own, secrets_volume(run, read_only=False))
        details = await self._images.read(wanted.Image, run)
        if details is None:
            raise Refused(_GONE, f"No such image: {wanted.Image[:200]}")
        if named.kind is Kind.PROBE:
            return templates.probe(details["Id"], own)
        await self._check_network(wanted.HostConfig.NetworkMode, run)
        roots = self._flows.roots(flow)
        mounts = [
            await asyncio.to_thread(roots.mount, one, run, held) for one in wanted.HostConfig.Mounts
        ]
        image = wanted.model_copy(update={"Image": details["Id"]})
        return templates.user(image, run, flow, own, named.number, mounts)

    async def _check_network(self, mode: str, run: Run) -> None:
        if mode != "none" and not await self.is_network(mode, run):
            raise Refused(403, f"the network {mode[:100]} does not belong to this run")

    async def is_network(self, mode: str, run: Run) -> bool:
        """Whether a network mode is that of a container of a run which has set its routes."""
        kind, _, id = mode.partition(":")
        if kind != "container" or id not in self._ready:
            return False
        await self._own(id, run)
        return True

    def _may_have_network(self, run: Run) -> None:
        if run.network != "bridge":
            raise Refused(403, "the payload of the run asks for no network")

    async def listing(self, asked: Asked) -> None:
        """GET /containers/json, of its own job, or of the flow itself."""
        asked.only({"all", "filters", "limit", "size", "trunc_cmd"})
        run = asked.run
        of_job = {f"prefecture={SIBLING_LABEL}", f"{JOB_ID_LABEL}={run.job}"}
        of_flow = {"prefecture=job", f"{templates.RUN_LABEL}={run.id}"}
        wanted = filters(asked.request.query.get("filters", ""))
        if wanted == {"label": of_job}:
            if not run.is_over:
                # A run's first request of all: what it is given is read now, and its stage opened.
                await self._flows.now(run)
            found = await self._engine.listed(of_job)
            names = ("Id", "ImageID", "Names", "State", "Status", "Labels", "Created")
            await asked.answer(200, [{name: one[name] for name in names} for one in found])
        elif wanted == {"label": of_flow}:
            flow = await self._flows.of(run)
            await asked.answer(200, [{"Id": flow.id, "ImageID": flow.image}])
        else:
            raise Refused(403, "containers of others are not listed")

    async def inspect(self, asked: Asked) -> None:
        """GET /containers/<id>/json."""
        await asked.answer(200, await self._own(asked.groups[0], asked.run))

    async def attach(self, asked: Asked) -> None:
        """POST /containers/<id>/attach: what it prints."""
        asked.only({"logs", "stdout", "stderr", "stream"})
        await self._own(asked.groups[0], asked.run)
        query = {"stdout": "1", "stderr": "1", "stream": "1"}
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        await self._pass_on(asked, f"/containers/{asked.groups[0]}/attach", query, upgrade)

    async def start(self, asked: Asked) -> None:
        """POST /containers/<id>/start."""
        asked.only(())
        id = asked.groups[0]
        path = f"/containers/{id}/start"
        await self._own(id, asked.run)
        made = self._made.get(id)
        if made is None:
            # That broker held its folders open: the engine would find others, or none.
            raise Refused(503, "this container was made by a broker that has ended")
        if made.kind is Kind.PROBE:
            raise Refused(403, "this container is never started")
        if made.kind is Kind.NETWORK:
            if made.has_started:
                # Until its routes are set again, containers that share it would reach everything.
                raise Refused(403, "the container of a network is started once")
            made.has_started = True
            attach = f"/containers/{id}/attach"
            status, body = await self._engine.said_after(attach, path, b"ready\n", _READY)
            if status < 400:
                self._ready.add(id)
            return await asked.answer(status, body)
        await asked.answer(*await self._engine.ask("POST", path))

    async def wait(self, asked: Asked) -> None:
        """POST /containers/<id>/wait."""
        asked.only(())
        await self._own(asked.groups[0], asked.run)
        await self._pass_on(asked, f"/containers/{asked.groups[0]}/wait")

    async def stop(self, asked: Asked) -> None:
        """POST /containers/<id>/stop."""
        asked.only({"t"})
        await self._own(asked.groups[0], asked.run)
        grace = _number(asked.request.query.get("t", "10"))
        path = f"/containers/{asked.groups[0]}/stop"
        await self._pass_on(asked, path, {"t": str(grace)})

    async def remove(self, asked: Asked) -> None:
        """DELETE /containers/<id>, with its volumes that have no name."""
        asked.only({"v", "force", "link"})
        id = asked.groups[0]
        await self._own(id, asked.run)
        query = {"v": "1", "force": "1"}
        status, body = await self._engine.ask("DELETE", f"/containers/{id}", query)
        if status in (204, _GONE):
            self._forget(id)
        await asked.answer(status, body)

    async def stats(self, asked: Asked) -> None:
        """GET /containers/<id>/stats."""
        asked.only({"stream"})
        await self._own(asked.groups[0], asked.run)
        path = f"/containers/{asked.groups[0]}/stats"
        await self._pass_on(asked, path, {"stream": "1"}, method="GET")

    async def copy_out(self, asked: Asked) -> None:
        """GET /containers/<id>/archive: of a container that is never started."""
        asked.only({"path"})
        id = asked.groups[0]
        await self._own(id, asked.run)
        if not self._has_made(id, Kind.PROBE):
            raise Refused(403, "files are copied only from a container that is never started")
        query = {"path": asked.request.query.get("path", "")}
        await self._pass_on(asked, f"/containers/{id}/archive", query, method="GET")

    async def copy_in(self, asked: Asked) -> None:
        """PUT /containers/<id>/archive: the files of secrets."""
        id = asked.groups[0]
        await self._own(id, asked.run)
        if not self._has_made(id, Kind.SECRETS) or asked.request.query != {"path": "/run/secrets"}:
            raise Refused(403, "files are copied only to where secrets are")
        body = await asked.request.whole(_MOST_SECRETS)
        path = f"/containers/{id}/archive"
        status, _ = await self._engine.ask("PUT", path, {"path": "/run/secrets"}, body)
        await asked.answer(status)

    async def events(self, asked: Asked) -> None:
        """GET /events: the signals that a container of its own was sent."""
        asked.only({"since", "until", "filters"})
        wanted = filters(asked.request.query.get("filters", ""))
        id = next(iter(wanted.get("container", "")), "")
        if wanted != {"container": {id}, "event": {"kill"}} or not re.fullmatch(ID, id):
            raise Refused(403, "only the events `kill` of one container are sent")
        await self._own(id, asked.run)
        times = {name: asked.request.query.get(name, "") for name in ("since", "until")}
        if not all(re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", time) for time in times.values()):
            raise Refused(400, "events need the times `since` and `until`")
        query = times | {"filters": json.dumps({"container": [id], "event": ["kill"]})}
        await self._pass_on(asked, "/events", query, method="GET")

    async def network(self, asked: Asked) -> None:
        """POST /networks/create: the one network of all users' containers."""
        await asked.parsed(templates.WantedNetwork)
        self._may_have_network(asked.run)
        await asked.answer(
            *await self._engine.ask("POST", "/networks/create", body=templates.OUR_NETWORK)
        )

    async def read_network(self, asked: Asked) -> None:
        """GET /networks/prefecture-containers."""
        status, found = await self._engine.ask("GET", f"/networks/{NETWORK}")
        if status == 200:
            # Not the containers in it, which are those of other jobs.
            found = {name: found[name] for name in ("Name", "Id", "IPAM")}
        await asked.answer(status, found)

    async def volume(self, asked: Asked) -> None:
        """POST /volumes/create: the volume of the run's secrets."""
        wanted, run = await asked.parsed(_Volume), asked.run
        found = re.fullmatch(r"size=([1-9][0-9]{0,6}),mode=0755", wanted.DriverOpts.o)
        if wanted.Name != f"{SECRETS_VOLUME}{run.id}" or not found:
            raise Refused(403, "a run has no other volume than that of its secrets")
        flow = await self._flows.of(run)
        body = {
            "Name": wanted.Name,
            "Driver": "local",
            "DriverOpts": {
                "type": "tmpfs",
                "device": "tmpfs",
                # An archive that is copied there could have devices, and files without content.
                "o": f"{wanted.DriverOpts.o},nr_inodes=1024,nodev,nosuid",
            },
            "Labels": templates.labels(run, flow, Kind.SECRETS),
        }
        await asked.answer(*await self._engine.ask("POST", "/volumes/create", body=body))

    async def remove_volume(self, asked: Asked) -> None:
        """DELETE /volumes/<name>."""
        asked.only({"force"})
        if asked.groups[0] != f"{SECRETS_VOLUME}{asked.run.id}":
            raise Refused(403, "this volume does not belong to this run")
        await asked.answer(*await self._engine.ask("DELETE", f"/volumes/{asked.groups[0]}"))

    async def _own(self, id: str, run: Run) -> dict[str, Any]:
        """The details of a container of a run's job. Raises Refused for any other."""
        status, details = await self._engine.ask("GET", f"/containers/{id}/json")
        if status == _GONE:
            self._forget(id)
            raise Refused(_GONE, f"No such container: {id}")
        if status != 200:
            raise Refused(503, f"the Docker engine does not say what {id[:12]} is")
        own: dict[str, str] = details["Config"]["Labels"] or {}
        if own.get("prefecture") == SIBLING_LABEL and own.get(JOB_ID_LABEL) == str(run.job):
            return details
        if "prefecture" not in own:
            raise Refused(_GONE, f"No such container: {id}")  # none of Prefecture's
        raise Refused(403, f"the container {id[:12]} does not belong to this job")

    def _has_made(self, id: str, kind: Kind) -> bool:
        # Not by a label: the container of a build step has those of its Dockerfile.
        made = self._made.get(id)
        return made is not None and made.kind is kind

    def _forget(self, id: str) -> None:
        self._ready.discard(id)
        if made := self._made.pop(id, None):
            made.held.close()

    async def tidy(self) -> None:
        """Release what is held for containers that somebody else has removed. Raises Refused."""
        await self._flows.tidy()
        known = {one["Id"] for one in await self._engine.listed({f"prefecture={SIBLING_LABEL}"})}
        for id in self._made.keys() - known:
            status, _ = await self._engine.ask("GET", f"/containers/{id}/json")
            if status == _GONE:
                self._forget(id)

    async def _pass_on(
        self,
        asked: Asked,
        path: str,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> None:
        asked.request.no_body()
        async with asked.until_gone() as gone:
            asked.answered = True
            await self._engine.stream(asked.client, gone, method, path, query, headers)


class _Options(BaseModel, extra="forbid", strict=True):
    type: str
    device: str
    o: str


class _Volume(BaseModel, extra="forbid", strict=True):
    Name: str
    Driver: str
    DriverOpts: _Options
    Labels: dict[str, str] = {}


def _number(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise Refused(400, "this must be a number of seconds")
    return int(text)
