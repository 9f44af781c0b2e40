"""Routes for the pictures of a job: each as it was given, and as it was published.

Files of users are shown as pictures only, never as documents of our origin: their first bytes must
be those of a raster format, of which the browser is told, and it may not guess another.
"""

import asyncio
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

from fastapi import APIRouter, HTTPException
from prefect.client.schemas.objects import FlowRun
from pydantic import BaseModel
from starlette.responses import FileResponse, Response

from deployments.gateway.jobs import Client, InForce, Reader, find_visible
from deployments.jobs.results import find_result
from tasks.storage.inputs.local import is_glob, split_glob
from tasks.storage.results.interface import Result

MOST = 500
"""Pictures in one answer."""
_NOT_FOUND, _NO_PICTURE = 404, 415
_HEAD = 32  # bytes in which every signature stands
_SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"}
_SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "inline",
    "Cache-Control": "private, max-age=600",
}

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
async def pictures(caller: Reader, client: Client, settings: InForce, job: UUID) -> list[Picture]:
    """The pictures of a job's result, 500 at most, with those that they were made of."""
    run = await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    if found.links():
        return []  # in S3: the page may show nothing of another origin
    return await asyncio.to_thread(_pairs, found, run, settings.inputs)


@router.get("/jobs/{job}/pictures/{side}/{path:path}", response_class=FileResponse)
async def picture(
    caller: Reader,
    client: Client,
    settings: InForce,
    job: UUID,
    side: Literal["before", "after"],
    path: str,
) -> Response:
    """One picture, for a page to show: JPEG, PNG, WebP, AVIF, GIF or BMP, and nothing else."""
    run = await find_visible(client, caller, job)
    found = await find_result(client, settings, str(job))
    place = _after(found, path) if side == "after" else _before(found, run, settings.inputs, path)
    if place is None:
        raise HTTPException(_NOT_FOUND, f"job {job} has no picture {path[:200]!r}")
    kind = await asyncio.to_thread(_kind, place)
    if kind is None:
        raise HTTPException(_NO_PICTURE, f"{path[:200]!r} is no picture that a browser shows")
    return FileResponse(place, headers=_SAFE, media_type=kind)


def _pairs(found: Result, run: FlowRun, inputs: Path) -> list[Picture]:
    sizes = {file.path: file.bytes for file in found.manifest.files}
    pairs: list[Picture] = []
    for report in _reports(found)[:MOST]:
        output = report.get("output")
        if output not in sizes:
            output = None
        place = _source(run, inputs, report["source"])
        shown = place is not None and _is_shown(place.name)
        pairs.append(
            Picture(
                before=report["source"] if shown else None,
                after=output if output and _is_shown(output) else None,
                bytes_before=report.get("bytes_in"),
                bytes_after=sizes.get(output or ""),
                note=report.get("reason") or "",
            )
        )
    known = {report.get("output") for report in _reports(found)}
    others = [path for path in sizes if path not in known and _is_shown(path)]
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


def _after(found: Result, path: str) -> Path | None:
    if found.links() or path not in {file.path for file in found.manifest.files}:
        return None
    return _inside(Path(found.location), path)


def _before(found: Result, run: FlowRun, inputs: Path, name: str) -> Path | None:
    if name not in {report["source"] for report in _reports(found)}:
        return None
    return _source(run, inputs, name)


def _source(run: FlowRun, inputs: Path, name: str) -> Path | None:
    """A file of a job's source, by its name there; None where it is not there any more."""
    payload: Any = run.parameters.get("payload")
    source: Any = cast("dict[str, Any]", payload).get("source") if payload else None
    if not isinstance(source, str) or "://" in source or ".." in source.split("/"):
        return None
    start = inputs / source
    if start.is_file():
        return _inside(inputs, source) if start.name == name else None
    folder = split_glob(source)[0] if is_glob(source) and not start.is_dir() else source
    return _inside(inputs, f"{folder}/{name}")


def _inside(root: Path, path: str) -> Path | None:
    """A file below a folder; None where it is gone, or a link leads out of the folder."""
    folder = root.resolve()
    place = (folder / path).resolve()
    return place if place.is_relative_to(folder) and place.is_file() else None


def _is_shown(name: str) -> bool:
    return Path(name).suffix.lower() in _SUFFIXES


def _kind(place: Path) -> str | None:
    """The media type of a raster picture, by its first bytes; None where it is none."""
    with place.open("rb") as opened:
        head = opened.read(_HEAD)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "image/avif"
    for signature, kind in (
        (b"\xff\xd8\xff", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF8", "image/gif"),
        (b"BM", "image/bmp"),
    ):
        if head.startswith(signature):
            return kind
    return None
