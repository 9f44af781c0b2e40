"""Results on a local disk: staged beside their place, published by one rename.

    <results root>/<directory>/<job id>/             the result, complete or not there at all
    <results root>/.staging/<job id>.<attempt>/      where one attempt works

One file system holds both, so the rename is atomic, and it fails when the target is there already:
of two attempts at one job the second to arrive loses and discards its own. A result folder always
holds a manifest, so the target is never an empty folder, the one case in which a rename would win.
"""

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import ValidationError

from tasks.contracts import Manifest, PublishedFile
from tasks.errors import (
    CorruptResult,
    InvalidPayload,
    PrefectureError,
    ResultsUnwritable,
    StageDiscarded,
)

MANIFEST = "manifest.json"
STAGING = ".staging"
FAILED = ".failed"
"""Behind a job's id: what a job that failed has left to read."""
RECORDS = ".prefect"  # under the root too: what Prefect keeps of the flows' return values
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """The folders one attempt works in, until it publishes or is discarded."""

    results: Path
    target: Path
    files: Path
    scratch: Path


@contextmanager
def open_stage(root: Path, directory: str, job: UUID, attempt: UUID) -> Generator[Stage]:
    """A stage for one attempt at `job`, removed when the block ends, published or not.

    Raises InvalidPayload where `directory` cannot hold a result, ResultsUnwritable where the root
    cannot be written, and StageDiscarded where the block fails because someone removed the stage.
    """
    target = root / directory / str(job)
    check_place(root, target)
    # An attempt that was put back in its queue runs again under the same id: hence the suffix.
    # No folder of the job's above it: one attempt would remove it while another moves in.
    folder = root / STAGING / f"{job}.{attempt}.{secrets.token_hex(4)}"
    stage = Stage(root, target, folder / "files", folder / "scratch")
    try:
        with writing(root):
            for path in (stage.files, stage.scratch):
                path.mkdir(parents=True)
        try:
            yield stage
        except Exception as error:
            if folder.exists():
                raise
            raise StageDiscarded(
                f"attempt {attempt} was given up, and what it staged removed: another does the job"
            ) from error
    finally:
        discard(folder)


def discard_stages(root: Path, job: UUID, attempt: UUID | None = None) -> None:
    """Remove what one attempt at a job, or all, have staged. Only once they are gone."""
    for folder in (root / STAGING).glob(f"{job}.{attempt or '*'}.*"):
        discard(folder)


def staged(root: Path) -> set[tuple[UUID, UUID]]:
    """The job and the attempt of every stage that stands under `root`."""
    found: set[tuple[UUID, UUID]] = set()
    for folder in (root / STAGING).glob("*.*.*"):
        with suppress(ValueError):  # not one of ours: left alone
            job, attempt, _ = folder.name.split(".")
            found.add((UUID(job), UUID(attempt)))
    return found


def is_published(root: Path, directory: str, job: UUID) -> bool:
    """Whether a job's result stands."""
    return (root / directory / str(job) / MANIFEST).is_file()


def inventory(folder: Path) -> list[PublishedFile]:
    """Every file below `folder` with its size and sha256, flushed to the disk, sorted by path."""
    with writing(folder):
        return [
            _seal(path, path.relative_to(folder).as_posix())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]


def publish(stage: Stage, manifest: Manifest) -> Manifest:
    """Move the staged files with their manifest to their place, all at once.

    Returns the manifest that stands there: another attempt's, where that one was first. Raises
    InvalidPayload where a file has the manifest's name, or the directory is no place for a result.
    """
    path = stage.files / MANIFEST
    if os.path.lexists(path):
        raise name_taken()
    with writing(stage.results):
        path.write_text(manifest.model_dump_json(indent=2) + "\n")
        flush(path)
        for folder in [*(p for p in stage.files.rglob("*") if p.is_dir()), stage.files]:
            flush(folder)
        check_place(stage.results, stage.target)
        stage.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            stage.files.rename(stage.target)
        except OSError:
            if (stage.target / MANIFEST).is_file():
                return read_manifest(stage.target)
            raise
        # Up to the root, because the directory's own folders may be new as well.
        for folder in stage.target.parents:
            flush(folder)
            if folder == stage.results:
                break
    return manifest


def find(root: Path, job: UUID) -> Path | None:
    """The folder of a job's result, wherever it stands under `root`; None where there is none."""
    for folder, subfolders, files in os.walk(root):
        here = Path(folder)
        if MANIFEST in files:
            subfolders.clear()
            if here.name == str(job):
                return here
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the result in `folder`. Raises CorruptResult where it cannot be read."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError) as error:
        raise unreadable(folder / MANIFEST) from error


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare every file with the manifest. Raises CorruptResult naming the first that differs."""
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.bytes or sha256(path) != file.sha256:
            raise damaged(path)


def copy(folder: Path, manifest: Manifest, target: Path) -> None:
    """Copy a result to `target`, then check the copies. The target must not exist or be empty.

    Raises CorruptResult naming the first file that differs, PrefectureError where it cannot copy.
    """
    try:
        prepare_target(target)
        for file in manifest.files:
            path, to = folder / file.path, target / file.path
            if not path.is_file():
                raise damaged(path)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)
        verify(target, manifest)
        shutil.copyfile(folder / MANIFEST, target / MANIFEST)
    except OSError as error:
        raise uncopied(folder, target, error) from error


def prepare_target(target: Path) -> None:
    """Make the folder that a result is copied to. Raises InvalidPayload where it holds anything."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidPayload(f"{target} is not an empty folder: name a new one")
    target.mkdir(parents=True, exist_ok=True)


def uncopied(source: object, target: Path, error: OSError) -> PrefectureError:
    """The one line for a copy that could not be written."""
    return PrefectureError(
        f"{source} cannot be copied to {target}: {error.strerror or error}: free space there, "
        "or name another folder"
    )


def name_taken() -> InvalidPayload:
    """The one line for a result that holds a file called like its manifest."""
    return InvalidPayload(
        f"a result cannot hold a file called {MANIFEST} beside its manifest: rename that file"
    )


def damaged(file: object) -> CorruptResult:
    """The one line for a file that differs from its manifest."""
    return CorruptResult(
        f"{file} is not the file that was published: do not use this result, run the job again"
    )


def unreadable(manifest: object) -> CorruptResult:
    """The one line for a manifest that is none."""
    return CorruptResult(f"{manifest} cannot be read: do not use this result, run the job again")


def check_place(root: Path, target: Path) -> None:
    """Refuse a target inside another result, through a file, or out of the root by a link."""
    directory = f"results directory '{target.parent.relative_to(root)}'"
    # Not Path.resolve, which raises at a link to itself before Python 3.13.
    if not Path(os.path.realpath(target.parent)).is_relative_to(os.path.realpath(root)):
        raise InvalidPayload(
            f"{directory} leads out of the results root by a symbolic link: choose another name"
        )
    place = target.parent
    while place != root:
        if (place / MANIFEST).is_file():
            raise InvalidPayload(
                f"{directory} lies inside something published at {place}: choose another name"
            )
        if os.path.lexists(place) and not place.is_dir():
            raise InvalidPayload(f"{directory}: {place} is not a folder: choose another name")
        place = place.parent


def _seal(path: Path, name: str) -> PublishedFile:
    flush(path)
    return PublishedFile(path=name, bytes=path.stat().st_size, sha256=sha256(path))


def sha256(path: Path) -> str:
    """Of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Bring what was written to a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def discard(folder: Path) -> None:
    """Remove an attempt's staging folder; what cannot be removed is logged, and harms no job.

    It changes its name first: an attempt that is about to publish, on a host that cannot be
    reached, then finds nothing to move, where it could have moved what is just being emptied.
    """
    try:
        take_out(folder, folder)
    except FileNotFoundError:
        return  # it was never made, or another was first
    except OSError as error:
        _log.warning("staging folder %s is left behind: %s", folder, error)


def take_out(folder: Path, stage: Path) -> None:
    """Remove a folder of a stage, or the stage itself, even while others write into it.

    It is renamed to a discarded stage of the same attempt; where that cannot be emptied because
    somebody has written into it meanwhile, it is left for the supervisor, which tries again.
    Raises OSError where it cannot be renamed.
    """
    name, _, _ = stage.name.rpartition(".")
    away = stage.with_name(f"{name}.discarded-{secrets.token_hex(4)}")
    folder.rename(away)
    try:
        shutil.rmtree(away)
    except OSError as error:
        _log.warning("staging folder %s is left behind: %s", away, error)


def unwritable(root: Path, error: OSError) -> ResultsUnwritable:
    """The one line that says why results cannot be written under `root`."""
    return ResultsUnwritable(
        f"results cannot be written under {root}: {error.strerror or error}: free space there "
        "or give the worker's user write access, then submit again"
    )


@contextmanager
def writing(root: Path) -> Generator[None]:
    """Every failure to write to the disk as one line."""
    try:
        yield
    except OSError as error:
        raise unwritable(root, error) from error
