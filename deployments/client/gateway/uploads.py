"""Uploads of the files that payloads name, to the folder of their user."""

import asyncio
import base64
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.filesize import decimal

from deployments.client.gateway import archives
from deployments.client.gateway.requests import Refused, Requests
from deployments.client.gateway.sources import (
    LocalSource,
    Upload,
    changed,
    local_source,
)
from deployments.client.gateway.transfers import CHUNK, Patience, broken_off, each
from deployments.jobs.dependencies.sources import texts_at, with_text
from tasks.errors import ServerUnavailable
from tasks.storage.results import local_files

Say = Callable[[str], None]
"""Tells the user something, in a line."""
_ASKED_FOR = 2**20  # bytes from which on it is worth a request to ask what has arrived
_ANNOUNCED = 16 * 2**20  # bytes from which on the user is told before
_NOT_FOUND, _CONFLICT, _UNPROCESSABLE = 404, 409, 422
_OFFSET = "Upload-Offset"


class Uploads:
    """Uploads the local sources of payloads; each source once. `folder`: what they are relative
    to."""

    def __init__(self, requests: Requests, say: Say, folder: Path | None = None) -> None:
        self._requests = requests
        self._once = requests.with_patience(0)
        self._say = say
        self._folder = folder or Path.cwd()
        self._done: dict[str, str] = {}
        self._prefix = ""

    async def replaced(
        self, payload: Mapping[str, Any], schema: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The payload, with the names that the gateway has given to what it names here.

        `schema`: of the parameters of its task. Raises SourceNotFound, and InvalidPayload for a
        file that changes meanwhile.
        """
        for keys, text in texts_at(payload, schema):
            if text not in self._done:
                local = local_source(text, self._folder)
                self._done[text] = text if local is None else await self._upload(text, local)
            payload = with_text(payload, keys, self._done[text])
        return payload

    async def _upload(self, text: str, local: LocalSource) -> str:
        source, files = await asyncio.to_thread(local.uploads)
        folder = "/".join(source.split("/")[:2])
        there = {each["path"]: int(each["bytes"]) for each in await self._listed(folder)}
        missing = [file for file in files if there.get(file.path) != file.bytes]
        if sum(file.bytes for file in missing) >= _ANNOUNCED:
            self._say(f"{text}: uploading {_amount(missing)}")
        await each([*archives.batches(missing)], self._put_all)
        done = "is uploaded" if missing else "was uploaded before"
        self._say(f"{text} {done}, {_amount(files)}: {self._prefix}{source}")
        return f"{self._prefix}{source}"

    async def _put_all(self, files: Sequence[Upload]) -> None:
        """Upload files: one alone, several small ones as an archive, in one request."""
        if len(files) == 1:
            await self._put(files[0])
            return
        left: list[Upload] = [*files]
        patience = Patience()
        folder = "/".join(files[0].path.split("/")[:2])
        while left:
            try:
                answer = await self._once.try_send(
                    "PUT",
                    f"/inputs/{quote(folder)}",
                    headers={
                        "Content-Type": archives.TYPE,
                        "Content-Length": str(archives.size_of(folder, left)),
                    },
                    content=archives.content(folder, left),
                )
                self._note(answer.json())
                return
            except ServerUnavailable as error:
                if not await patience.rest():
                    what = f"the upload of {len(left):,} files"
                    raise broken_off(what, self._requests.url, error) from error
            except Refused as refused:
                if refused.status == _UNPROCESSABLE:
                    for file in left:
                        if await _has_changed(file):
                            raise changed(file) from None
                if refused.status != _CONFLICT and not refused.is_passing:
                    raise refused.error() from None
                if await refused.is_over(patience):
                    raise refused.error() from None
            # Of an archive that broke off, those files are there that have arrived.
            there = {each["path"] for each in await self._listed(folder)}
            before, left = len(left), [file for file in left if file.path not in there]
            if len(left) < before:
                patience.renew()

    async def _put(self, file: Upload) -> None:
        """Upload a file, and go on where the connection breaks."""
        path = f"/inputs/{quote(file.path)}"
        patience, is_anew = Patience(), False
        offset = 0 if file.bytes < _ASKED_FOR else await self._arrived(path)
        while True:
            try:
                answer = await self._once.try_send(
                    "PUT",
                    path,
                    headers={
                        "Content-Length": str(file.bytes - offset),
                        "Repr-Digest": _digest(file.sha256),
                        **({_OFFSET: str(offset)} if offset else {}),
                    },
                    content=_content(file, offset),
                )
                self._note(answer.json())
                return
            except ServerUnavailable as error:
                if not await patience.rest():
                    what = f"the upload of {file.place}"
                    raise broken_off(what, self._requests.url, error) from error
            except Refused as refused:
                if refused.status == _UNPROCESSABLE and not is_anew:
                    # What an earlier call has left may be damaged; now, nothing of it is there.
                    is_anew, offset = True, 0
                    continue
                if refused.status == _UNPROCESSABLE and await _has_changed(file):
                    raise changed(file) from None
                if refused.status != _CONFLICT and not refused.is_passing:
                    raise refused.error() from None
                if refused.status == _CONFLICT and await self._listed(file.path):
                    return
                # All has arrived: an earlier request, whose answer was lost, still sends it to S3.
                is_sent = refused.status == _CONFLICT and offset == file.bytes
                if await refused.is_over(patience, is_turn=is_sent):
                    raise refused.error() from None
            before, offset = offset, await self._arrived(path)
            if offset > before:
                patience.renew()

    async def _listed(self, path: str) -> list[dict[str, Any]]:
        """The user's file at a path, or the files in the folder there, 10,000 at most."""
        listed = await self._requests.get("/inputs", under=path)
        for found in listed[:1]:
            self._note(found)
        return listed

    def _note(self, answer: Mapping[str, Any]) -> None:
        """Keep what the gateway's names of the user's files begin with."""
        self._prefix = str(answer["source"]).removesuffix(str(answer["path"]))

    async def _arrived(self, path: str) -> int:
        """How many bytes of an upload have arrived."""
        try:
            answer = await self._requests.try_send("HEAD", path)
        except Refused as refused:
            if refused.status != _NOT_FOUND:
                raise refused.error() from None
            return 0
        return int(answer.headers.get(_OFFSET, 0))


async def _content(file: Upload, offset: int) -> AsyncGenerator[bytes]:
    """The bytes of a file from `offset` on, never more than were counted."""
    left = file.bytes - offset
    with file.place.open("rb") as opened:
        opened.seek(offset)
        while left and (some := await asyncio.to_thread(opened.read, min(CHUNK, left))):
            left -= len(some)
            yield some
    if left:
        raise changed(file)


async def _has_changed(file: Upload) -> bool:
    return await asyncio.to_thread(local_files.sha256, file.place) != file.sha256


def _amount(files: Sequence[Upload]) -> str:
    number = "1 file" if len(files) == 1 else f"{len(files):,} files"
    return f"{number}, {decimal(sum(file.bytes for file in files))}"


def _digest(sha256: str) -> str:
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
