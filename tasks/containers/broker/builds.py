"""Builds for a job: the context is read and written anew, the Dockerfile checked, steps bounded."""

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, cast

from tasks.containers.broker.engine import Engine
from tasks.containers.broker.http import PIECE, Refused, Request, object_of
from tasks.containers.broker.tarballs import members
from tasks.containers.images.dockerfile import (
    bases,
    check_dockerfile,
    copied_from,
    trigger_fetches,
)
from tasks.containers.images.steps import DELAYS, MOST_PROCESSES, Watch
from tasks.errors import InvalidPayload

MOST_BYTES = 2 * 2**30 + 2**27
"""Of a context: those of its files, and their heads in the tarball."""
MEMORY = 2 * 2**30
"""Bytes for each step, swap included."""
_DOCKERFILE = "Dockerfile"
_MOST_TEXT = 2**20  # bytes of a Dockerfile
_MOST_LINE = 2**20  # bytes of one event


async def receive(request: Request, folder: Path) -> tuple[IO[bytes], str]:
    """A context that is on the disk, written anew, and the text of its Dockerfile.

    Raises Refused where it is no plain tarball with one Dockerfile.
    """
    if not 0 < request.length <= MOST_BYTES:
        raise Refused(413, f"the context of a build may have {MOST_BYTES:,} bytes")
    with TemporaryFile(dir=folder) as spool:
        async for piece in request.pieces():
            await asyncio.to_thread(spool.write, piece)
        spool.seek(0)
        context = TemporaryFile(dir=folder)  # noqa: SIM115  # its user closes it
        try:
            text = await asyncio.to_thread(_rewrite, spool, context)
        except (tarfile.TarError, OSError, ValueError, EOFError) as error:
            context.close()
            raise Refused(400, f"the context of the build is no tarball: {error}") from None
        except BaseException:
            context.close()
            raise
        return context, text


def _rewrite(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a tarball member by member, so that the engine reads what was read here."""
    dockerfile: tuple[tarfile.TarInfo, bytes] | None = None
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as new:
        for made in members(source):
            name = made.name
            if ".." in name.split("/") or name.startswith("/") or "\0" in name:
                raise Refused(400, f"a context cannot have the member {name[:100]}")
            if name.lower() != _DOCKERFILE.lower():
                new.addfile(made, source if made.isreg() else None)
                continue
            if name != _DOCKERFILE or not made.isreg() or dockerfile or made.size > _MOST_TEXT:
                raise Refused(400, "a context has one file Dockerfile, of that name, and no link")
            dockerfile = made, source.read(made.size)
        if dockerfile is None:
            raise Refused(400, "the context has no Dockerfile")
        # Last: nothing that the engine unpacks before, through a link, replaces it.
        made, data = dockerfile
        new.addfile(made, io.BytesIO(data))
    return data.decode(errors="replace")


def values_of(text: str) -> dict[str, str]:
    """The values of a build's ARGs, as the query has them. Raises Refused."""
    values = object_of(text, "buildargs")
    if not all(isinstance(value, str) for value in values.values()):
        raise Refused(400, "buildargs has a value that is not a text")
    return values


def text_of(values: Mapping[str, str]) -> str:
    """The values of a build's ARGs, for the query."""
    return json.dumps(dict(values))


async def check(
    text: str,
    values: Mapping[str, str],
    target: str,
    read: Callable[[str], Awaitable[dict[str, Any] | None]],
) -> None:
    """Raise Refused where the engine would fetch an address, or the run may not use a base image.

    `read`: details of an image that the run may use; None where it is not on this host.
    """
    try:
        check_dockerfile(text)
        found = bases(text, values, target)
    except InvalidPayload as error:
        raise Refused(403, str(error)) from None
    for base in found:
        details = await read(base.name)
        if details is None:
            raise Refused(403, f"FROM {base.name}: the image is not on this host: pull it first")
        config: dict[str, Any] = details.get("Config") or {}
        triggers: list[str] = config.get("OnBuild") or []
        for trigger in triggers:
            if trigger_fetches(trigger):
                raise Refused(403, f"FROM {base.name}: its ONBUILD fetches an address")
            for name in copied_from(trigger):
                await read(name)
    for name in copied_from(text):
        await read(name)


async def content(file: IO[bytes]) -> AsyncIterator[bytes]:
    """A file, piece by piece, from its beginning."""
    file.seek(0)
    while data := await asyncio.to_thread(file.read, PIECE):
        yield data


class Steps:
    """Reads the engine's answer to a build, and limits the containers of its steps."""

    def __init__(self, engine: Engine, network: str) -> None:
        self._engine = engine
        self._watch = Watch(MEMORY, network)
        self._rest = b""

    async def take(self, data: bytes) -> None:
        """Read a piece of the engine's answer. Raises Refused where a step cannot be limited."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MOST_LINE:
            self._rest = b""
        for line in lines:
            try:
                event: Any = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                said = str(cast(dict[str, Any], event).get("stream", ""))
                if container := self._watch.created(said):
                    await self._limit(container)

    async def _limit(self, container: str) -> None:
        for delay in DELAYS:
            status, details = await self._engine.ask("GET", f"/containers/{container}/json")
            if status == 404 or not self._watch.is_to_limit(details):
                return
            status, _ = await self._engine.ask(
                "POST", f"/containers/{container}/update", body={"PidsLimit": MOST_PROCESSES}
            )
            if status == 200:
                return
            await asyncio.sleep(delay)  # it is starting or ending
        raise Refused(503, "the processes of a build step cannot be limited")
