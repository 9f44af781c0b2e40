"""Routes for the results of jobs: the manifest, and each file.

Files are of users and their containers: a browser is told to save them, and to run nothing.
"""

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Header, HTTPException
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from zipstream import ZipStream  # pyright: ignore[reportMissingTypeStubs]  # has none

from deployments.gateway.jobs import Client, InForce, Reader, find_visible
from deployments.jobs.results import find_result
from deployments.retention.results import expires_at
from tasks.contracts import Manifest, PublishedFile
from tasks.storage.results.interface import Result
from tasks.storage.results.local_files import MANIFEST

_NOT_MODIFIED, _NOT_FOUND, _CONFLICT, _TEMPORARY_REDIRECT = 304, 404, 409, 307
SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
"""Headers with which a browser runs nothing of a file."""

router = APIRouter()


@router.get("/jobs/{job}/result")
async def result(caller: Reader, client: Client, settings: InForce, job: UUID) -> Manifest:
    """The manifest of a job's result: its files, with their bytes and SHA-256. 410 where it was
    removed after its time, `expires`."""
    await find_visible(client, caller, job)
    manifest = (await find_result(client, settings, str(job))).manifest
    expires = expires_at(settings, manifest.published, manifest.expires)
    return manifest.model_copy(update={"expires": expires})


@router.get("/jobs/{job}/result/{path:path}", response_class=FileResponse)
@router.head("/jobs/{job}/result/{path:path}", include_in_schema=False)
async def result_file(
    caller: Reader,
    client: Client,
    settings: InForce,
    job: UUID,
    path: str,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """One file of a job's result. Ranges are supported; its ETag is its SHA-256.

    Where results are in S3, the answer is a redirect to a link that is good for an hour.
    """
    await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    for number, file in enumerate(found.manifest.files):
        if file.path == path:
            tag = f'"{file.sha256}"'
            if if_none_match and is_known(if_none_match, tag):
                return Response(status_code=_NOT_MODIFIED, headers={"ETag": tag})
            return await asyncio.to_thread(_respond, found, number, file, tag)
    raise HTTPException(_NOT_FOUND, f"the result of job {job} has no file {path[:200]!r}")


@router.get("/jobs/{job}/result.zip", response_class=StreamingResponse)
@router.head("/jobs/{job}/result.zip", include_in_schema=False)
async def result_zip(caller: Reader, client: Client, settings: InForce, job: UUID) -> Response:
    """All files of a job's result and its manifest, as one zip archive that is made while it is
    sent. Results in S3 have a link for each file in its place."""
    await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    return await asyncio.to_thread(_archive, found)


def is_known(if_none_match: str, tag: str) -> bool:
    """Whether a client has what a tag names already. A proxy that compresses makes the tag weak,
    which says that the content is the same."""
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return tag in known or known == ["*"]


class _File(FileResponse):
    """Reads more at once than Starlette does: each piece is read by a thread."""

    chunk_size = 2**20


class _Reading(Response):
    """A response with files of a result, which is not removed while they are sent."""

    def __init__(self, found: Result, response: Response) -> None:
        super().__init__()
        self._response = response
        self._held = ExitStack()
        self._held.enter_context(found.reading())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            response = self._response
            if scope["method"] == "HEAD" and isinstance(response, StreamingResponse):
                response = Response(headers=dict(response.headers))  # nothing is made to be sent
            await response(scope, receive, send)


def _respond(found: Result, number: int, file: PublishedFile, tag: str) -> Response:
    if links := found.links():
        return RedirectResponse(links[number], _TEMPORARY_REDIRECT, {"Cache-Control": "no-store"})
    place = _place(found, file.path)
    headers = _saved_as(place.name) | {"ETag": tag, "Cache-Control": "private, no-cache"}
    response = _File(place, headers=headers, media_type="application/octet-stream")
    return _Reading(found, response)


def _archive(found: Result) -> Response:
    if found.links():
        raise HTTPException(
            _CONFLICT, "the result is in S3: get each of its files, which is a link there"
        )
    # What most results hold is compressed already; and so its length is known before it is made.
    archive = ZipStream(sized=True)
    for path in (*(file.path for file in found.manifest.files), MANIFEST):
        archive.add_path(str(_place(found, path)), path)  # pyright: ignore[reportUnknownMemberType]
    name = f"{found.manifest.job}.zip"
    headers = _saved_as(name) | {"Content-Length": str(len(archive))}
    return _Reading(
        found, StreamingResponse(archive, headers=headers, media_type="application/zip")
    )


def _place(found: Result, path: str) -> Path:
    """A file of a result on this disk. It was published as a file, and somebody may have replaced
    it since. Raises HTTPException."""
    folder = Path(found.location).resolve()
    place = (folder / path).resolve()
    if not place.is_relative_to(folder) or not place.is_file():
        raise HTTPException(_NOT_FOUND, f"the file {path!r} is not there any more")
    return place


def _saved_as(name: str) -> dict[str, str]:
    """The headers with which a browser saves a file, and shows and runs nothing of it."""
    return SAFE | {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
