"""What a page shows of the files of a result: the beginning of one, as text."""

import asyncio
from pathlib import Path
from uuid import UUID

from fastapi import APIRouter, HTTPException
from starlette.responses import Response

from deployments.gateway.jobs import Client, InForce, Reader, find_visible
from deployments.gateway.page.given import inside
from deployments.gateway.results import SAFE
from deployments.jobs.results import find_result
from tasks.errors import StorageUnavailable
from tasks.storage.results.interface import Result
from tasks.storage.results.s3_result import S3Result
from tasks.storage.s3_errors import s3_errors, text
from tasks.storage.s3_reads import OpenObject

BEGINNING = 64 * 1024
"""Bytes of a preview."""
_NOT_FOUND = 404

router = APIRouter()


@router.get("/jobs/{job}/preview/{path:path}", response_class=Response)
async def preview(
    caller: Reader, client: Client, settings: InForce, job: UUID, path: str
) -> Response:
    """The first 64 KiB of a file of a job's result, sent by the gateway, also from S3."""
    await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    opened = await asyncio.to_thread(open_published, found, path)
    if opened is None:
        raise HTTPException(_NOT_FOUND, f"the result of job {job} has no file {path[:200]!r}")
    data = await asyncio.to_thread(beginning, opened)
    return Response(data, headers=SAFE, media_type="application/octet-stream")


def open_published(found: Result, path: str) -> Path | OpenObject | None:
    """A file of a result; None where it has none of that name. Blocking.

    Raises StorageUnavailable, and CorruptResult where a file of a result in S3 is gone.
    """
    file = next((file for file in found.manifest.files if file.path == path), None)
    if file is None:
        return None
    return found.open(file) if isinstance(found, S3Result) else inside(Path(found.location), path)


def beginning(opened: Path | OpenObject) -> bytes:
    """The first bytes of a file. Blocking. Raises StorageUnavailable."""
    if isinstance(opened, Path):
        with opened.open("rb") as file:
            return file.read(BEGINNING)
    try:
        return opened.read(BEGINNING)
    except s3_errors() as error:
        raise StorageUnavailable(f"a file cannot be read for now: {text(error)}") from error
    finally:
        opened.close()
