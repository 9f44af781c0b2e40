"""Routes for the results of jobs: the manifest, and each file.

Files are of users and their containers: a browser is told to save them, and to run nothing.
"""

import asyncio
from pathlib import Path
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from deployments.gateway.jobs import Client, Reader, find_visible
from deployments.jobs.results import find_result
from tasks.contracts import Manifest, PublishedFile
from tasks.settings import Settings
from tasks.storage.results.interface import Result

_NOT_MODIFIED, _NOT_FOUND, _TEMPORARY_REDIRECT = 304, 404, 307
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}

router = APIRouter()


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


_Settings = Annotated[Settings, Depends(_settings)]


@router.get("/jobs/{job}/result")
async def result(caller: Reader, client: Client, settings: _Settings, job: UUID) -> Manifest:
    """The manifest of a job's result: its files, with their bytes and SHA-256."""
    await find_visible(client, caller, job)
    return (await find_result(client, settings, str(job))).manifest


@router.get("/jobs/{job}/result/{path:path}", response_class=FileResponse)
async def result_file(
    caller: Reader,
    client: Client,
    settings: _Settings,
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
            if if_none_match == tag:
                return Response(status_code=_NOT_MODIFIED, headers={"ETag": tag})
            return await asyncio.to_thread(_respond, found, number, file, tag)
    raise HTTPException(_NOT_FOUND, f"the result of job {job} has no file {path[:200]!r}")


def _respond(found: Result, number: int, file: PublishedFile, tag: str) -> Response:
    if links := found.links():
        return RedirectResponse(links[number], _TEMPORARY_REDIRECT, {"Cache-Control": "no-store"})
    folder = Path(found.location).resolve()
    place = (folder / file.path).resolve()
    # It is published as a file, and somebody may have replaced it since.
    if not place.is_relative_to(folder) or not place.is_file():
        raise HTTPException(_NOT_FOUND, f"the file {file.path!r} is not there any more")
    return FileResponse(
        place,
        headers=_SAFE
        | {
            "ETag": tag,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(place.name, safe='')}",
            "Cache-Control": "private, no-cache",
        },
        media_type="application/octet-stream",
    )
