"""Routes for the files that users upload for their jobs."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Query, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope as ASGIScope

from deployments.gateway.archives.receive import AT_ONCE, BrokenOff, Bytes, receive
from deployments.gateway.jobs import InUploads, Reader, Submitter
from deployments.gateway.requests import Message
from deployments.gateway.uploads.receiving import Part
from deployments.gateway.uploads.records import Uploaded
from deployments.serving.large_bodies import ReceiveBody, receive_body
from tasks.storage.in_threads import in_threads

PATH = "/inputs/"
"""Begins the paths of files, after that of the version."""
SILENCE = 60.0
"""Seconds that a client may send nothing."""
MOST_LISTED = 10_000
_TAR = "application/x-tar"
_OK, _CREATED, _NOT_FOUND = 200, 201, 404
_TIMEOUT, _NO_LENGTH, _TOO_LARGE, _UNSUPPORTED, _UNPROCESSABLE = 408, 411, 413, 415, 422

router = APIRouter()


_Under = Annotated[str, Query(description="Only this file, or the files in this folder.")]


class Input(BaseModel):
    """A file of a user."""

    path: str
    source: str
    """What a payload names."""
    bytes: int
    modified: datetime
    sha256: str | None = None
    """Of a file that has just been uploaded."""


class Folder(BaseModel):
    """A folder of a user that has just been unpacked."""

    path: str
    source: str
    """What a payload names."""
    files: int
    """How many were in the archive."""
    bytes: int
    """Of all of them together."""


def is_upload(scope: ASGIScope) -> bool:
    """Whether a request has a body of any length, which is written to the disk as it arrives."""
    return scope["method"] == "PUT" and PATH in scope["path"]


@router.get("/inputs")
async def inputs(caller: Reader, uploads: InUploads, under: _Under = "") -> list[Input]:
    """The user's own files, 10,000 at most, sorted by path."""

    def read() -> list[Input]:
        listed = uploads.store.listed(caller.token.user, under.rstrip("/"))
        return [_described(each) for each in islice(listed, MOST_LISTED)]

    return await asyncio.to_thread(read)


@router.head("/inputs/{path:path}")
async def input_state(caller: Submitter, uploads: InUploads, path: str) -> Response:
    """Where to continue the upload of a file: `Upload-Offset`. 404 where none was begun."""
    offset = await asyncio.to_thread(uploads.offset, caller.token.user, path)
    if offset is None:
        return Response(status_code=_NOT_FOUND)
    return Response(headers={"Upload-Offset": str(offset)})


@router.put("/inputs/{path:path}", status_code=_CREATED)
async def put_input(
    caller: Submitter,
    uploads: InUploads,
    request: Request,
    path: str,
    content_length: Annotated[int | None, Header(ge=0)] = None,
    upload_offset: Annotated[int, Header(ge=0, description="Bytes that are there already.")] = 0,
    repr_digest: Annotated[str | None, Header(description="RFC 9530, of the whole file.")] = None,
    content_type: Annotated[str, Header(description="`application/x-tar`: a folder.")] = "",
    content_encoding: Annotated[str, Header(description="`gzip`, of an archive.")] = "",
    content_range: Annotated[str | None, Header(include_in_schema=False)] = None,
    overwrite: bool = False,
) -> Input | Folder:
    """Upload a file, or a folder as a tar archive. A payload names it by the answer's `source`.

    It exists once it is whole, and its digest right. What has arrived of an upload that breaks off
    is kept for a week: continue with the header `Upload-Offset`.

    With `Content-Type: application/x-tar` the body is an archive, and `path` the folder that it is
    unpacked to, all of it or nothing; with `Content-Encoding: gzip` it is compressed. Of one that
    breaks off, those files stay that have arrived. While S3 is away the answer is 503, and each
    file that has arrived is continued as one that was uploaded alone.
    """
    if content_range is not None:
        # As `curl -C` sends it: the rest of a file would be taken for all of it.
        reason = "Content-Range: send the rest of a file with the header Upload-Offset in its place"
        raise HTTPException(_UNPROCESSABLE, reason)
    if content_type.partition(";")[0].strip().lower() == _TAR:
        archive = Bytes(_arriving(request), is_gzip=_is_gzip(content_encoding))
        expected, user = _sha256(repr_digest), caller.token.user
        try:
            done = await receive(uploads, user, path, archive, expected, overwrite=overwrite)
        except BrokenOff:
            raise HTTPException(_UNPROCESSABLE, "the archive has not arrived whole") from None
        found = Folder(
            path=path, source=uploads.store.source(user, path), files=done.files, bytes=done.bytes
        )
        caller.record(
            _CREATED, reason=f"{found.source}, {done.files:,} files, {done.bytes:,} bytes"
        )
        return found
    if _is_gzip(content_encoding):
        reason = "Content-Encoding: a file is kept as it is sent: leave the header out"
        raise HTTPException(_UNSUPPORTED, reason)
    if content_length is None:
        raise HTTPException(_NO_LENGTH, "the header Content-Length is needed")
    expected = _sha256(repr_digest)
    user = caller.token.user
    receiving = uploads.receive(user, path, upload_offset, content_length, overwrite=overwrite)
    async with in_threads(receiving) as part:
        await _write(request, part, content_length)
        if expected not in (None, part.sha256):
            await asyncio.to_thread(uploads.discard, user, path)
            reason = f"Repr-Digest: the SHA-256 of what has arrived is {part.sha256}: send it again"
            raise HTTPException(_UNPROCESSABLE, reason)
        publish = partial(uploads.publish, user, path, part, overwrite=overwrite)
        found = await uploads.in_background(publish)
    caller.record(_CREATED, reason=f"{found.source}, {found.bytes:,} bytes")
    return _described(found, part.sha256)


@router.delete("/inputs/{path:path}")
async def delete_input(caller: Submitter, uploads: InUploads, path: str) -> Message:
    """Delete a file of the user's own, or a folder with all that is in it."""
    await asyncio.to_thread(uploads.store.delete, caller.token.user, path)
    caller.record(_OK, reason=path)
    return Message(message=f"{path} is deleted")


async def _write(request: Request, part: Part, length: int) -> None:
    """Write a body of `length` bytes. Raises HTTPException where it does not arrive."""
    if (receive_all := receive_body(request.scope)) is not None:
        return await _write_all(receive_all, part, length)
    left, waiting, size = length, list[bytes](), 0
    writing: asyncio.Task[None] | None = None  # of what has arrived before: one at a time
    try:
        async for some in _arriving(request):
            left -= len(some)
            if left < 0:
                raise HTTPException(_TOO_LARGE, f"the body is longer than {length:,} bytes")
            waiting.append(some)
            size += len(some)
            if size >= AT_ONCE:
                if writing is not None:
                    await writing
                writing = asyncio.create_task(asyncio.to_thread(part.write, b"".join(waiting)))
                waiting, size = [], 0
    except BrokenOff:
        pass
    finally:
        if writing is not None:
            await writing
    if waiting:
        await asyncio.to_thread(part.write, b"".join(waiting))
    _check_whole(left)


async def _write_all(receive_all: ReceiveBody, part: Part, length: int) -> None:
    """The same, past the messages of the server."""
    try:
        arrived = await receive_all(part.write, SILENCE)
    except TimeoutError:
        raise _silent() from None
    _check_whole(length - arrived)


def _check_whole(left: int) -> None:
    if left:
        raise HTTPException(_UNPROCESSABLE, f"{left:,} bytes of the body have not arrived")


def _silent() -> HTTPException:
    return HTTPException(_TIMEOUT, f"nothing has arrived for {SILENCE:.0f} s")


async def _arriving(request: Request) -> AsyncGenerator[bytes]:
    """The parts of a body. Raises BrokenOff, and HTTPException after a silence."""
    body = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                some = await anext(body, None)
        except TimeoutError:
            raise _silent() from None
        except ClientDisconnect:
            raise BrokenOff from None
        if some is None:
            return
        yield some


def _is_gzip(encoding: str) -> bool:
    """Whether an archive is compressed. Raises HTTPException where it is in another way."""
    name = encoding.strip().lower()
    if name not in ("", "identity", "gzip"):
        raise HTTPException(_UNSUPPORTED, "Content-Encoding: use gzip, or none")
    return name == "gzip"


def _sha256(digest: str | None) -> str | None:
    """The SHA-256 of a header Repr-Digest, hexadecimal. Raises HTTPException."""
    if digest is None:
        return None
    for each in digest.split(","):
        algorithm, _, value = each.strip().partition("=")
        if algorithm == "sha-256" and len(value) > 1 and value[0] == value[-1] == ":":
            try:
                return base64.b64decode(value[1:-1], validate=True).hex()
            except binascii.Error:
                break
    raise HTTPException(_UNPROCESSABLE, "Repr-Digest: give one such as sha-256=:<base64>:")


def _described(file: Uploaded, sha256: str | None = None) -> Input:
    return Input(
        path=file.path,
        source=file.source,
        bytes=file.bytes,
        modified=datetime.fromtimestamp(file.modified, UTC),
        sha256=sha256,
    )
