"""Requests about images: to find, to pull and to build one, and to remove the run's own."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from tasks.containers.broker import builds
from tasks.containers.broker.asked import Asked
from tasks.containers.broker.builds import Steps
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.http import MOST_JSON, Refused, parsed
from tasks.containers.broker.runs import Run
from tasks.containers.images.steps import CPU_SHARES
from tasks.contracts import BUILT_REPOSITORY

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,499}")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}")
_PULL = {"fromImage", "tag", "platform"}
_ONE_SAYS_THE_SAME = {"q", "nocache", "rm", "forcerm", "pull"}  # their values are the template's
_GONE = 404
_ERROR = 400


class Images:
    """Answers requests about images. `is_network`: whether a network mode is a run's own; `folder`:
    for contexts of builds, on a disk."""

    def __init__(
        self,
        engine: Engine,
        is_network: Callable[[str, Run], Awaitable[bool]],
        folder: Path,
    ) -> None:
        self._engine = engine
        self._is_network = is_network
        self._folder = folder
        self._building: set[UUID] = set()

    async def read(self, name: str, run: Run) -> dict[str, Any] | None:
        """The details of an image; None where it is not on this host.

        Raises Refused where it was built for another job.
        """
        if not _NAME.fullmatch(name) or any(p in ("", ".", "..") for p in name.split("/")):
            raise Refused(400, f"no image has the name {name[:100]!r}")
        status, details = await self._engine.ask("GET", f"/images/{name}/json")
        if status == _GONE:
            return None
        if status != 200:
            raise Refused(400 if status < 500 else 503, f"the engine answers {status}: {details}")
        tags: list[str] = details.get("RepoTags") or []
        own = f"{BUILT_REPOSITORY}:{run.job}"
        # Some engines (containerd's image store) give a built image a digest, too.
        digests: list[str] = details.get("RepoDigests") or []
        built = (f"{BUILT_REPOSITORY}:", f"{BUILT_REPOSITORY}@")
        if own in tags or any(not name.startswith(built) for name in (*tags, *digests)):
            return details
        raise Refused(403, f"the image {name[:100]} has no name, or was built for another job")

    async def inspect(self, asked: Asked) -> None:
        """GET /images/<name>/json."""
        asked.only(())
        details = await self.read(asked.groups[0], asked.run)
        if details is None:
            raise Refused(_GONE, f"No such image: {asked.groups[0]}")
        await asked.answer(200, details)

    async def remove(self, asked: Asked) -> None:
        """DELETE /images/<name>: the one that was built for its job."""
        asked.only({"force", "noprune"})
        name = f"{BUILT_REPOSITORY}:{asked.run.job}"
        if asked.groups[0] != name:
            raise Refused(403, "a run may remove only the image of its own build")
        query = {"force": "1", "noprune": "1"}
        await asked.answer(*await self._engine.ask("DELETE", f"/images/{name}", query))

    async def pull(self, asked: Asked) -> None:
        """POST /images/create."""
        asked.only(_PULL)
        asked.request.no_body()
        query = dict(asked.request.query)
        name = query.get("fromImage", "")
        if not _NAME.fullmatch(name) or name.partition(":")[0] == BUILT_REPOSITORY:
            raise Refused(403, f"the image {name[:100]} cannot be pulled")
        if not query.get("tag"):
            raise Refused(400, "an image is pulled by its tag or digest")
        sent = _registry(asked, "X-Registry-Auth")
        async with asked.until_gone() as gone:
            asked.answered = True
            await self._engine.stream(asked.client, gone, "POST", "/images/create", query, sent)

    async def log_in(self, asked: Asked) -> None:
        """POST /auth: checks a user and password at a registry."""
        body = await asked.parsed(_Login)
        await asked.answer(*await self._engine.ask("POST", "/auth", body=body.model_dump()))

    async def build(self, asked: Asked) -> None:
        """POST /build: an image with the name of the job, within the limits of the template."""
        asked.only({"t", "memory", "memswap", "cpushares", "networkmode", "buildargs", "target"}
                   | _ONE_SAYS_THE_SAME)  # fmt: skip
        run, query = asked.run, asked.request.query
        name = f"{BUILT_REPOSITORY}:{run.job}"
        network, target = query.get("networkmode", "none"), query.get("target", "")
        if query.get("t") != name:
            raise Refused(403, f"a build of this run must have the name {name}")
        if network != "none" and not await self._is_network(network, run):
            raise Refused(403, f"the network {network[:100]} does not belong to this run")
        if target and not _PLAIN.fullmatch(target):
            raise Refused(400, "no stage of a Dockerfile has such a name")
        values = builds.values_of(query.get("buildargs", ""))
        if run.id in self._building:
            raise Refused(429, "a run builds one image at a time")
        self._building.add(run.id)
        try:
            await self._build(asked, values, network, target)
        finally:
            self._building.discard(run.id)

    async def _build(self, asked: Asked, values: dict[str, str], network: str, target: str) -> None:
        context, text = await builds.receive(asked.request, self._folder)
        with context:
            await builds.check(text, values, target, lambda name: self.read(name, asked.run))
            query = {
                "t": asked.request.query["t"],
                **{"rm": "1", "forcerm": "1", "dockerfile": "Dockerfile"},
                **{"memory": str(builds.MEMORY), "memswap": str(builds.MEMORY)},
                **{"cpushares": str(CPU_SHARES), "networkmode": network},
                "buildargs": builds.text_of(values),
                **({"target": target} if target else {}),
            }
            answer = _Answer(asked, Steps(self._engine, network))
            sent = {"Content-Type": "application/x-tar", **_registry(asked, "X-Registry-Config")}
            async with asked.until_gone() as gone:
                await self._engine.follow(
                    gone, "/build", query, sent, builds.content(context), context.tell(),
                    begin=answer.begin, take=answer.take,
                )  # fmt: skip
            await answer.end()


class _Answer:
    """Passes on the engine's answer to a build: as a stream, or an error as it is."""

    def __init__(self, asked: Asked, steps: Steps) -> None:
        self._asked = asked
        self._steps = steps
        self._status = 0
        self._error = bytearray()

    async def begin(self, status: int) -> None:
        """Begin the answer, where it is no error."""
        self._status = status
        if status < _ERROR:
            self._asked.answered = True
            self._asked.client.write(
                f"HTTP/1.1 {status} OK\r\nContent-Type: application/json\r\n"
                "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
            )

    async def take(self, data: bytes) -> None:
        """Pass on a piece."""
        if self._status >= _ERROR:
            self._error += data[: MOST_JSON - len(self._error)]
            return
        await self._steps.take(data)
        self._asked.client.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self._asked.client.drain()

    async def end(self) -> None:
        """End the answer."""
        if self._status >= _ERROR:
            # Docker's client takes a stream for a success, whatever its status.
            await self._asked.answer(self._status, parsed(bytes(self._error)))
        else:
            self._asked.client.write(b"0\r\n\r\n")
            await self._asked.client.drain()


class _Login(BaseModel, extra="forbid", strict=True):
    username: str
    password: str
    email: str | None = None
    serveraddress: str


def _registry(asked: Asked, name: str) -> dict[str, str]:
    """The header with the passwords of registries, where the request has one."""
    given = asked.request.headers.get(name.lower())
    return {name: given} if given else {}
