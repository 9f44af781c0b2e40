"""Routes for the files that users upload for their jobs."""

import asyncio
import base64
import binascii
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Scope as ASGIScope

from deployments.gateway.jobs import Reader, Submitter
from deployments.gateway.requests import Message
from deployments.gateway.uploads import Part, Uploaded, Uploads
from tasks.storage.in_threads import in_threads

PATH = "/inputs/"
"""Begins the paths of files, after that of the version."""
SILENCE = 60.0
"""Seconds that a client may send nothing."""
MOST_LISTED = 10_000
_AT_ONCE = 2**20  # bytes that are written at once
_OK, _CREATED, _NOT_FOUND = 200, 201, 404
_TIMEOUT, _NO_LENGTH, _TOO_LARGE, _UNPROCESSABLE = 408, 411, 413, 422

router = APIRouter()


async def _uploads(request: Request) -> Uploads:
    return request.app.state.uploads


_Uploads = Annotated[Uploads, Depends(_uploads)]
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


def is_upload(scope: ASGIScope) -> bool:
    """Whether a request has a body of any length, which is written to the disk as it arrives."""
    return scope["method"] == "PUT" and PATH in scope["path"]


@router.get("/inputs")
async def inputs(caller: Reader, uploads: _Uploads, under: _Under = "") -> list[Input]:
    """The user's own files, 10,000 at most, sorted by path."""

    def read() -> list[Input]:
        listed = uploads.listed(caller.token.user, under)
        return [_described(each) for each in islice(listed, MOST_LISTED)]

    return await asyncio.to_thread(read)


@router.head("/inputs/{path:path}")
async def input_state(caller: Submitter, uploads: _Uploads, path: str) -> Response:
    """Where to continue the upload of a file: `Upload-Offset`. 404 where none was begun."""
    offset = await asyncio.to_thread(uploads.offset, caller.token.user, path)
    if offset is None:
        return Response(status_code=_NOT_FOUND)
    return Response(headers={"Upload-Offset": str(offset)})


@router.put("/inputs/{path:path}", status_code=_CREATED)
async def put_input(
    caller: Submitter,
    uploads: _Uploads,
    request: Request,
    path: str,
    content_length: Annotated[int | None, Header(ge=0)] = None,
    upload_offset: Annotated[int, Header(ge=0, description="Bytes that are there already.")] = 0,
    repr_digest: Annotated[str | None, Header(description="RFC 9530, of the whole file.")] = None,
    overwrite: bool = False,
) -> Input:
    """Upload a file. A payload names it by the `source` of the answer.

    It exists once it is whole, and its digest right. What has arrived of an upload that breaks off
    is kept for a week: continue with the header `Upload-Offset`.
    """
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
        found = await asyncio.to_thread(uploads.publish, user, path, part, overwrite=overwrite)
    caller.record(_CREATED, reason=f"{found.source}, {found.bytes:,} bytes")
    return _described(found, part.sha256)


@router.delete("/inputs/{path:path}")
async def delete_input(caller: Submitter, uploads: _Uploads, path: str) -> Message:
    """Delete a file of the user's own, or a folder with all that is in it."""
    await asyncio.to_thread(uploads.delete, caller.token.user, path)
    caller.record(_OK, reason=path)
    return Message(message=f"{path} is deleted")


async def _write(request: Request, part: Part, length: int) -> None:
    """Write a body of `length` bytes. Raises HTTPException where it does not arrive."""
    left, waiting = length, bytearray()
    body = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                some = await anext(body, None)
        except TimeoutError:
            raise HTTPException(_TIMEOUT, f"nothing has arrived for {SILENCE:.0f} s") from None
        except ClientDisconnect:
            some = None
        if some is not None:
            left -= len(some)
            waiting += some
        if left < 0:
            raise HTTPException(_TOO_LARGE, f"the body is longer than {length:,} bytes")
        if waiting and (some is None or len(waiting) >= _AT_ONCE):
            await asyncio.to_thread(part.write, bytes(waiting))
            waiting.clear()
        if some is None:
            break
    if left:
        raise HTTPException(_UNPROCESSABLE, f"{left:,} bytes of the body have not arrived")


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
