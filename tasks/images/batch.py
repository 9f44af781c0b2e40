"""Processes a set of pictures, a few at a time, with a report for each."""

import asyncio
import base64
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.contracts import MAX_NAME_BYTES, ImageFormat, stays_inside
from tasks.errors import FileUnreadable, InvalidPayload, UnreadableInput
from tasks.images import transform
from tasks.images.transform import ImageReport
from tasks.runtime.progress import Progress, show_progress
from tasks.settings import get_settings
from tasks.storage.inputs.local import InputFile, Unreadable
from tasks.storage.results.interface import Workplace
from tasks.storage.results.local_files import MANIFEST, name_taken

Work = Callable[[Path, str, Path], ImageReport]
"""Takes a picture's path, its name and the path to write. Blocks. Reports broken pictures too."""

_PREVIEWS = 3
# The error text of a library is of no use to a user; it is logged for developers.
_UNEXPECTED = "could not be processed, by a fault in Prefecture: please report it, with the file"
_logger = logging.getLogger(__name__)
_LISTED = 50  # entries of each list in the artifact; the manifest has all
_SUFFIXES: dict[ImageFormat, str] = {
    "jpeg": ".jpg",
    "png": ".png",
    "webp": ".webp",
    "avif": ".avif",
    "tiff": ".tif",
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a set: `summary` for the manifest, the rest (markdown) for the UI."""

    summary: dict[str, Any]
    notes: str
    pictures: str


def keep_name(picture: InputFile) -> str:
    """The published name of a picture whose format is kept: its own name."""
    return picture.name


def name_for_format(
    pictures: Sequence[InputFile], format: ImageFormat
) -> Callable[[InputFile], str]:
    """Returns a function that names pictures in a new format: `a.png` becomes `a.webp`.

    Where two would get the same name (`a.png`, `a.jpg`), both keep their suffix: `a.png.webp`.
    """
    suffix = _SUFFIXES[format]
    readable = [p.name for p in pictures if not isinstance(p, Unreadable)]
    names = {name: PurePosixPath(name).with_suffix(suffix).as_posix() for name in readable}
    # Repeated, because the new name `a.png.webp` may also be the new name of `a.png.tif`.
    while met := {name for name, count in Counter(names.values()).items() if count > 1}:
        names |= {old: old + suffix for old, new in names.items() if new in met}
    return lambda picture: names.get(picture.name, picture.name)


async def rework(
    pictures: Sequence[InputFile], rename: Callable[[InputFile], str], work: Work, stage: Workplace
) -> Outcome:
    """Do `work` on every picture, as many at a time as the job has CPUs.

    Raises UnreadableInput where no picture is a readable image, FileUnreadable where no file can
    be opened, InvalidPayload where the names cannot stand in one result.
    """
    _check_names(rename(picture) for picture in pictures if not isinstance(picture, Unreadable))
    # A manifest.json is usually no picture and only reported. If it is one, the job fails at once.
    queue = deque(sorted(pictures, key=lambda picture: rename(picture) != MANIFEST))
    reports: list[ImageReport] = []
    refusals: list[FileUnreadable] = []
    previews: dict[str, bytes] = {}

    def one(picture: InputFile, source: Path) -> ImageReport:
        target = stage.files / rename(picture)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            report = work(source, picture.name, target)
        except (OSError, MemoryError):
            raise  # a fault of the host, not of the picture
        except Exception:
            # One bad file must not fail the whole job, whatever error a library raises for it.
            target.unlink(missing_ok=True)
            _logger.warning("%s could not be processed", picture.name, exc_info=True)
            report = transform.not_readable(picture.name, _UNEXPECTED)
        if target == stage.files / MANIFEST and report.outcome != "broken":
            raise name_taken()
        if report.outcome != "broken" and len(previews) < _PREVIEWS:
            pair = _preview(picture.name, source, target)
            if pair is not None and len(previews) < _PREVIEWS:
                previews[picture.name] = pair
        return report

    async def take(progress: Progress) -> None:
        while queue:
            picture = queue.popleft()
            try:
                async with picture.local(stage.scratch) as source:
                    reports.append(await asyncio.to_thread(one, picture, source))
            except FileUnreadable as refusal:
                refusals.append(refusal)
                reports.append(transform.not_readable(picture.name, refusal.reason))
            except Exception:
                queue.clear()  # the other workers end after their current picture
                raise
            progress.fraction = len(reports) / len(pictures)
            progress.text = f"{len(reports):,} of {len(pictures):,} pictures"

    async with show_progress(f"{len(pictures):,} pictures") as progress:
        takers = (take(progress) for _ in range(get_settings().cpus))
        # Not a TaskGroup: it would hide a JobError in a group, and leave threads at work.
        for error in await asyncio.gather(*takers, return_exceptions=True):
            if error is not None:
                raise error

    if len(refusals) == len(pictures):
        raise min(refusals, key=str)  # no file could be opened
    reports.sort(key=lambda report: report.source)
    if all(report.outcome == "broken" for report in reports):
        first = reports[0]
        raise UnreadableInput(
            f"the source holds no readable image: {first.source}: {first.reason}"
            + (f", and {len(reports) - 1:,} more" if len(reports) > 1 else "")
        )
    summary = _summary(reports)
    return Outcome(summary, _notes(summary), _pictures(previews))


def _preview(name: str, source: Path, target: Path) -> bytes | None:
    try:
        return transform.before_and_after(source, target)
    except Exception:
        # The result is complete without a preview.
        _logger.warning("%s has no preview", name, exc_info=True)
        return None


def _check_names(names: Iterable[str]) -> None:
    taken = set(names)
    for name in sorted(taken):
        path = PurePosixPath(name)
        if not stays_inside(name):
            raise InvalidPayload(f"{name!r} would be written outside of the result: rename it")
        if any(len(part.encode()) > MAX_NAME_BYTES for part in path.parts):
            raise InvalidPayload(
                f"{name!r} is longer than the {MAX_NAME_BYTES} bytes of a file name: rename it"
            )
        for folder in map(str, path.parents):
            if folder in taken:
                raise InvalidPayload(
                    f"{folder!r} and {name!r} cannot stand in one result, where the first would "
                    "be a file and a folder: rename one"
                )


def _summary(reports: list[ImageReport]) -> dict[str, Any]:
    kept = [report for report in reports if report.outcome != "broken"]
    outcomes = Counter(report.outcome for report in reports)
    return {
        "pictures": len(reports),
        "done": outcomes["done"],
        "missed": [_brief(report) for report in reports if report.outcome == "missed"],
        "reduced": [_brief(report) for report in reports if report.outcome == "reduced"],
        "broken": [_brief(report) for report in reports if report.outcome == "broken"],
        "bytes_in": sum(report.bytes_in for report in kept),
        "bytes_out": sum(report.bytes_out or 0 for report in kept),
        "reports": [report.model_dump(exclude_none=True) for report in reports],
    }


def _brief(report: ImageReport) -> dict[str, Any]:
    return report.model_dump(include={"source", "reason", "ratio"}, exclude_none=True)


def _notes(summary: dict[str, Any]) -> str:
    before, after = summary["bytes_in"], summary["bytes_out"]
    lines = [f"**{before:,} bytes became {after:,}** ({after / max(before, 1):.0%})."]
    for heading, entries in (
        ("Could not be read", summary["broken"]),
        ("Hold less than the original", summary["reduced"]),
        ("Could not be made that small", summary["missed"]),
    ):
        if entries:
            named = "\n".join(f"- `{e['source']}`: {e['reason']}" for e in entries[:_LISTED])
            more = f"\n- … and {len(entries) - _LISTED:,} more" if len(entries) > _LISTED else ""
            lines.append(f"### {heading} ({len(entries):,})\n\n{named}{more}")
    return "\n\n".join(lines)


def _pictures(previews: dict[str, bytes]) -> str:
    lines: list[str] = []
    for name in sorted(previews):
        data = base64.b64encode(previews[name]).decode()
        lines.append(f"`{name}`, before and after:\n\n![{name}](data:image/webp;base64,{data})")
    return "\n\n".join(lines)
