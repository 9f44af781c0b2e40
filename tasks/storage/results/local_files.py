"""Results on a local disk: staged beside their place, published by one rename.

    <results root>/<directory>/<job id>/                 the result, complete or absent
    <results root>/.staging/<job id>.<attempt>.<token>/  the stage of one attempt

Both are on one file system, so the rename is atomic, and it fails where the target exists: of two
attempts at one job the second discards its own files. A result folder always holds a manifest, so
the target is never an empty folder, the only case in which a rename would replace it.

Nobody may write to the files of a result. Only the owner may change its folders, and so delete it.
"""

import hashlib
import logging
import os
import secrets
import shutil
import stat
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
from tasks.settings import stage_token

MANIFEST = "manifest.json"
STAGING = ".staging"
FAILED = ".failed"
"""Suffix behind a job's id: the folder of files that a failed job leaves."""
RECORDS = ".prefect"  # under the root too: Prefect's records of the flows' return values
_ALL_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """The folders of one attempt, until it publishes or is discarded."""

    results: Path
    target: Path
    files: Path
    scratch: Path


@contextmanager
def open_stage(root: Path, directory: str, job: UUID, attempt: UUID) -> Generator[Stage]:
    """Open a stage for one attempt at `job`, removed when the block ends, published or not.

    Raises InvalidPayload where `directory` cannot hold a result, ResultsUnwritable where the root
    cannot be written, and StageDiscarded where the block fails because the stage was removed.
    """
    target = root / directory / str(job)
    check_place(root, target)
    # An attempt that was put back in its queue runs again under the same id: hence the token.
    # No parent folder per job: one attempt would remove it while another is created in it.
    folder = stage_folder(root, job, attempt, stage_token() or secrets.token_hex(4))
    stage = Stage(root, target, folder / "files", folder / "scratch")
    try:
        with stage_folders(root, folder, attempt, stage.files, stage.scratch):
            yield stage
    finally:
        discard(folder)


@contextmanager
def stage_folders(root: Path, folder: Path, attempt: UUID, *below: Path) -> Generator[None]:
    """Context for work in the stage `folder` under `root`, whose folders `below` it are created.

    Raises StageDiscarded in place of any error that follows once another attempt has removed the
    stage, and ResultsUnwritable where the folders cannot be created.
    """
    with writing(root):
        for path in below:
            path.mkdir(parents=True)
    try:
        yield
    except Exception as error:
        if folder.exists():
            raise
        raise StageDiscarded(
            f"attempt {attempt} was given up and its stage removed: another attempt does the job"
        ) from error


def stage_folder(root: Path, job: UUID, attempt: UUID, token: str) -> Path:
    """The folder of a stage. `token` sets apart the runs of one attempt."""
    return root / STAGING / f"{job}.{attempt}.{token}"


def discard_stages(root: Path, job: UUID, attempt: UUID | None = None) -> None:
    """Remove the stages of one attempt at a job, or of all. Only once those have ended."""
    for folder in (root / STAGING).glob(f"{job}.{attempt or '*'}.*"):
        discard(folder)


def staged(root: Path) -> set[tuple[UUID, UUID]]:
    """Job id and attempt id of every stage under `root`."""
    found: set[tuple[UUID, UUID]] = set()
    for folder in (root / STAGING).glob("*.*.*"):
        with suppress(ValueError):  # not a stage of Prefecture's: left alone
            job, attempt, _ = folder.name.split(".")
            found.add((UUID(job), UUID(attempt)))
    return found


def is_published(root: Path, directory: str, job: UUID) -> bool:
    """Whether a job's result is published."""
    return (root / directory / str(job) / MANIFEST).is_file()


def inventory(folder: Path) -> list[PublishedFile]:
    """Flush every file below `folder`, and list them with size and sha256, sorted by path."""
    with writing(folder):
        return [
            _seal(path, path.relative_to(folder).as_posix())
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]


def publish(stage: Stage, manifest: Manifest) -> Manifest:
    """Move the staged files with their manifest to the result's place, atomically.

    Returns the published manifest: another attempt's, where that attempt was first. Raises
    InvalidPayload where a file has the manifest's name, or the directory cannot hold a result.
    """
    path = stage.files / MANIFEST
    if os.path.lexists(path):
        raise name_taken()
    with writing(stage.results):
        path.write_text(manifest.model_dump_json(indent=2) + "\n")
        _flush_read_only(path)
        for folder in [*(p for p in stage.files.rglob("*") if p.is_dir()), stage.files]:
            _flush_read_only(folder)
        check_place(stage.results, stage.target)
        stage.target.parent.mkdir(parents=True, exist_ok=True)
        try:
            stage.files.rename(stage.target)
        except OSError:
            if (stage.target / MANIFEST).is_file():
                return read_manifest(stage.target)
            raise
        # Up to the root, because the folders of the results directory may be new too.
        for folder in stage.target.parents:
            flush(folder)
            if folder == stage.results:
                break
    return manifest


def find(root: Path, job: UUID) -> Path | None:
    """Search `root` for the folder of a job's result; None where there is none."""
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
    """Copy a result to `target`, a new or empty folder, then check the copies.

    Raises CorruptResult naming the first file that differs, PrefectureError where copying fails.
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
    """Make the target folder of a copy. Raises InvalidPayload where it is not an empty folder."""
    check_target(target)
    target.mkdir(parents=True, exist_ok=True)


def check_target(target: Path) -> None:
    """Raise InvalidPayload where the target of a copy exists, and is not an empty folder."""
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise InvalidPayload(f"{target} is not an empty folder: name a new one")


def uncopied(source: object, target: Path, error: OSError) -> PrefectureError:
    """The error for a copy that could not be written."""
    return PrefectureError(
        f"{source} cannot be copied to {target}: {error.strerror or error}: free space there, "
        "or name another folder"
    )


def name_taken() -> InvalidPayload:
    """The error for a result that holds a file with the manifest's name."""
    return InvalidPayload(
        f"a result cannot hold a file called {MANIFEST} beside its manifest: rename that file"
    )


def damaged(file: object) -> CorruptResult:
    """The error for a file that differs from its manifest."""
    return CorruptResult(
        f"{file} is not the file that was published: do not use this result, run the job again"
    )


def unreadable(manifest: object) -> CorruptResult:
    """The error for a manifest that cannot be read."""
    return CorruptResult(f"{manifest} cannot be read: do not use this result, run the job again")


def check_place(root: Path, target: Path) -> None:
    """Raise InvalidPayload where a target is inside a result, below a file or outside the root."""
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
    _flush_read_only(path)
    return PublishedFile(path=name, bytes=path.stat().st_size, sha256=sha256(path))


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Flush a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_read_only(path: Path) -> None:
    """Flush a file that nobody may write to from now on, or a folder that only its owner may."""
    handle = os.open(path, os.O_RDONLY)
    try:
        mode = os.fstat(handle).st_mode
        kept = stat.S_IWUSR if stat.S_ISDIR(mode) else 0
        # Refused where it is another user's, or where the file system has no modes.
        with suppress(OSError):
            os.fchmod(handle, stat.S_IMODE(mode) & ~(_ALL_WRITE & ~kept))
        os.fsync(handle)
    finally:
        os.close(handle)


def discard(folder: Path) -> None:
    """Remove an attempt's staging folder. Failure is logged, and is harmless.

    It is renamed first: an attempt that is about to publish, on a host that cannot be reached,
    then finds nothing to move, where else it could publish a folder that is being emptied.
    """
    try:
        take_out(folder, folder.name.rpartition(".")[0])
    except FileNotFoundError:
        return  # it was never made, or another process has removed it
    except OSError as error:
        _log.warning("staging folder %s is left behind: %s", folder, error)


def take_out(folder: Path, name: str) -> None:
    """Remove a stage, or a folder in one, even while others write into it.

    It is renamed to a discarded `name` beside it: a stage to one of the same attempt. Where it
    cannot be deleted then, because another process writes into it, it is left for the supervisor,
    which tries again later. Raises OSError where it cannot be renamed.
    """
    away = folder.with_name(f"{name}.discarded-{secrets.token_hex(4)}")
    folder.rename(away)
    try:
        shutil.rmtree(away)
    except OSError as error:
        _log.warning("staging folder %s is left behind: %s", away, error)


def unwritable(root: Path, error: OSError) -> ResultsUnwritable:
    """The error for results that cannot be written under `root`, with the reason."""
    return ResultsUnwritable(
        f"results cannot be written under {root}: {error.strerror or error}: free space there "
        "or give the worker's user write access, then submit again"
    )


@contextmanager
def writing(root: Path) -> Generator[None]:
    """Turn every OSError of the block into ResultsUnwritable with one line."""
    try:
        yield
    except OSError as error:
        raise unwritable(root, error) from error
