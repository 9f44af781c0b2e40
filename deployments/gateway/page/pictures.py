"""Routes for the pictures of a job: each as it was given, and as it was published."""

import asyncio
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from deployments.gateway.jobs import Client, InForce, InUploads, Reader, find_visible
from deployments.gateway.page.given import Given
from deployments.gateway.page.published import open_published
from deployments.gateway.page.raster import is_shown, shown
from deployments.jobs.results import find_result
from tasks.storage.results.interface import Result
from tasks.storage.s3_reads import OpenObject

MOST = 500
"""Pictures in one answer."""
_NOT_FOUND, _NO_PICTURE = 404, 415

router = APIRouter()


class Picture(BaseModel):
    """A picture that a job was given, has published, or both."""

    before: str | None
    """Its name in the source; None where there is none that can be shown."""
    after: str | None
    """Its path in the result."""
    bytes_before: int | None
    bytes_after: int | None
    note: str
    """Why it is not as asked for; empty otherwise."""


@router.get("/jobs/{job}/pictures")
async def pictures(
    caller: Reader, client: Client, settings: InForce, uploads: InUploads, job: UUID
) -> list[Picture]:
    """The pictures of a job's result, 500 at most, with those that they were made of."""
    run = await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    given = Given(run, settings.inputs, uploads.store)
    return await asyncio.to_thread(pairs_of, found, given)


@router.get("/jobs/{job}/pictures/{side}/{path:path}", response_class=FileResponse)
async def picture(
    caller: Reader,
    client: Client,
    settings: InForce,
    uploads: InUploads,
    job: UUID,
    side: Literal["before", "after"],
    path: str,
) -> Response:
    """One picture, for a page to show: JPEG, PNG, WebP, AVIF, GIF or BMP, and nothing else."""
    run = await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    given = Given(run, settings.inputs, uploads.store)
    opened = await asyncio.to_thread(open_picture, found, given, side, path)
    if opened is None:
        raise HTTPException(_NOT_FOUND, f"job {job} has no picture {path[:200]!r}")
    answer = await asyncio.to_thread(shown, opened)
    if answer is None:
        raise HTTPException(_NO_PICTURE, f"{path[:200]!r} is no picture that a browser shows")
    return answer


def pairs_of(found: Result, given: Given) -> list[Picture]:
    """The pictures of a result, with those that they were made of. Blocking."""
    sizes = {file.path: file.bytes for file in found.manifest.files}
    pairs: list[Picture] = []
    reports = _reports(found)[:MOST]
    there = given.there({name for report in reports if is_shown(name := report["source"])})
    for report in reports:
        output = report.get("output")
        if output not in sizes:
            output = None
        pairs.append(
            Picture(
                before=report["source"] if report["source"] in there else None,
                after=output if output and is_shown(output) else None,
                bytes_before=report.get("bytes_in"),
                bytes_after=sizes.get(output or ""),
                note=report.get("reason") or "",
            )
        )
    known = {report.get("output") for report in _reports(found)}
    others = [path for path in sizes if path not in known and is_shown(path)]
    pairs += [
        Picture(before=None, after=path, bytes_before=None, bytes_after=sizes[path], note="")
        for path in others[: MOST - len(pairs)]
    ]
    return pairs


def _reports(found: Result) -> list[dict[str, Any]]:
    """The task's own reports on its pictures; none of other tasks."""
    reports: Any = found.manifest.summary.get("reports")
    if not isinstance(reports, list):
        return []
    listed = cast("list[Any]", reports)
    each = [cast("dict[str, Any]", report) for report in listed if isinstance(report, dict)]
    return [report for report in each if isinstance(report.get("source"), str)]


def open_picture(found: Result, given: Given, side: str, path: str) -> Path | OpenObject | None:
    """A file of a job's source or result; None where it has none of that name. Blocking.

    `side`: `before` or `after`. Raises as open_published does.
    """
    if side == "before":
        named = path in {report["source"] for report in _reports(found)}
        return given.open(path) if named else None
    return open_published(found, path)
