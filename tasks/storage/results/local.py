"""A results root that is a folder: the interface over tasks.storage.results.local_files."""

import fcntl
import os
import secrets
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from tasks.contracts import Manifest, PublishedFile
from tasks.errors import CorruptResult, ResultExpired
from tasks.settings import stage_token
from tasks.storage.results import local_files
from tasks.storage.results.parts import FOLDER, LocalParts


@dataclass(frozen=True)
class LocalResult:
    """A result in a folder."""

    folder: Path
    manifest: Manifest

    @property
    def location(self) -> str:
        """The result's folder."""
        return str(self.folder)

    def __str__(self) -> str:
        return self.location

    def address(self, file: PublishedFile) -> None:
        """None: a file in a folder has no https address."""

    def links(self) -> list[str]:
        """Empty: a file in a folder has no link."""
        return []

    @contextmanager
    def reading(self) -> Generator[None]:
        """Hold a shared lock of the manifest, which is removed under an exclusive one."""
        gone = ResultExpired(f"the result of job {self.manifest.job} has just been removed")
        place = self.folder / local_files.MANIFEST
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise gone from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if not place.exists():
                raise gone
            yield
        except BlockingIOError:
            raise gone from None
        finally:
            os.close(descriptor)

    def verify(self) -> None:
        """Read every file and compare its size and sha256 with the manifest."""
        local_files.verify(self.folder, self.manifest)

    def copy(self, target: Path) -> None:
        """Copy the files, then read the copies."""
        local_files.copy(self.folder, self.manifest, target)


@dataclass(frozen=True)
class LocalStage:
    """A stage in the results root's file system."""

    stage: local_files.Stage

    @property
    def files(self) -> Path:
        """The folder of the files to publish."""
        return self.stage.files

    @property
    def scratch(self) -> Path:
        """The folder of temporary files, never published."""
        return self.stage.scratch

    @property
    def name(self) -> str:
        """The name of the stage's folder."""
        return self.stage.files.parent.name

    @property
    def parts(self) -> LocalParts:
        """Parts in a folder beside the files."""
        return LocalParts(self.stage.files.parent / FOLDER)

    def store(self) -> list[PublishedFile]:
        """Flush the files; they are on the right disk already."""
        return local_files.inventory(self.files)

    def set_aside(self, folder: Path) -> str:
        """Rename the folder to a place beside the result's."""
        target = self.stage.target
        with local_files.writing(self.stage.results):
            local_files.check_place(self.stage.results, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            to = target.with_name(f"{target.name}{local_files.FAILED}")
            if os.path.lexists(to):  # left by an attempt that died before its final state was set
                to = to.with_name(f"{to.name}.{secrets.token_hex(4)}")
            folder.rename(to)
        return str(to)

    def publish(self, manifest: Manifest) -> LocalResult:
        """Rename the folder of files to the result's place."""
        return LocalResult(self.stage.target, local_files.publish(self.stage, manifest))


@dataclass(frozen=True)
class LocalRoot:
    """A results root that is a folder."""

    root: Path
    fails_transiently: bool = False

    @contextmanager
    def open_stage(self, directory: str, job: UUID, attempt: UUID) -> Generator[LocalStage]:
        """Open a stage for one attempt; see tasks.storage.results.local_files."""
        with local_files.open_stage(self.root, directory, job, attempt) as stage:
            yield LocalStage(stage)

    def parts(self, directory: str, job: UUID, stage: str) -> LocalParts:
        """Parts in the folder of that stage."""
        return LocalParts(self.root / local_files.STAGING / stage / FOLDER)

    def staged(self) -> set[tuple[UUID, UUID]]:
        """Job id and attempt id of every stage under the root."""
        return local_files.staged(self.root)

    def discard_stages(self, job: UUID, attempt: UUID | None = None) -> None:
        """Remove the stages of one attempt at a job, or of all."""
        local_files.discard_stages(self.root, job, attempt)

    def is_published(self, directory: str, job: UUID) -> bool:
        """Whether a job's result is published."""
        return local_files.is_published(self.root, directory, job)

    def find(self, directory: str, job: UUID) -> LocalResult | None:
        """The result of a job; None where none is published."""
        if not self.is_published(directory, job):
            return None
        return _read(self.root / directory / str(job))

    def search(self, job: UUID) -> LocalResult | None:
        """As `find`, in all directories."""
        folder = local_files.find(self.root, job)
        return None if folder is None else _read(folder)

    def remove_old(self, directory: str, task: str, before: datetime) -> int:
        """Remove old results: each is first renamed, so that it is gone at once, then deleted."""
        gone = 0
        with local_files.writing(self.root):
            for path in (self.root / directory).glob(f"*/{local_files.MANIFEST}"):
                # Skip a result that another process removed, or whose manifest is corrupt.
                with suppress(FileNotFoundError, CorruptResult):
                    gone += self._remove(path.parent, task, before)
        return gone

    def check(self) -> None:
        """Write a temporary file to the staging folder.

        A job that has a stage may be confined to it, and writes to the folder of records instead.
        """
        has_stage = stage_token() is not None
        folder = self.root / (local_files.RECORDS if has_stage else local_files.STAGING)
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
        except OSError as error:
            raise local_files.unwritable(folder, error) from error

    def _remove(self, folder: Path, task: str, before: datetime) -> bool:
        # The manifest file's age first: to read every manifest each time would be slow.
        age = (folder / local_files.MANIFEST).stat().st_mtime
        if folder.is_symlink() or age >= before.timestamp():
            return False
        manifest = local_files.read_manifest(folder)
        if manifest.task != task or manifest.published >= before:
            return False
        away = f"{manifest.job}.{manifest.flow_run}.{secrets.token_hex(4)}"
        folder.rename(self.root / local_files.STAGING / away)
        local_files.discard(self.root / local_files.STAGING / away)
        return True


def _read(folder: Path) -> LocalResult:
    return LocalResult(folder, local_files.read_manifest(folder))
