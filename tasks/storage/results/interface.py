"""The interface of a results root, for a local disk and for S3.

Every method blocks. With S3, every method, unless it says otherwise, raises StorageUnavailable
where S3 does not answer, and a PrefectureError with the reason where S3 refuses.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from tasks.contracts import Manifest, PublishedFile
from tasks.storage.results.parts import Parts


class Result(Protocol):
    """A published result."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the result."""
        ...

    @property
    def location(self) -> str:
        """The result's folder or s3:// address; the same as `str(result)`."""
        ...

    def __str__(self) -> str: ...

    def address(self, file: PublishedFile) -> str | None:
        """The https address of one of the result's files, without any secret; None on a disk."""
        ...

    def links(self) -> list[str]:
        """A link for each file that anyone can read it with for an hour; empty on a disk."""
        ...

    def reading(self) -> AbstractContextManager[None]:
        """Context in which a result on a disk is not removed. Raises ResultExpired where it is
        gone, or about to be. Where it is in S3, links to it are good for an hour anyway."""
        ...

    def verify(self) -> None:
        """Compare every file with the manifest. Raises CorruptResult naming a file that differs."""
        ...

    def copy(self, target: Path) -> None:
        """Copy the result to a new or empty folder, and check the copies.

        Raises CorruptResult naming a file that differs, PrefectureError where copying fails.
        """
        ...


class Workplace(Protocol):
    """The folders that an attempt works in."""

    @property
    def files(self) -> Path:
        """The folder of the files to publish."""
        ...

    @property
    def scratch(self) -> Path:
        """The folder of temporary files, never published."""
        ...


class Stage(Workplace, Protocol):
    """The folders of one attempt, until it publishes or is discarded."""

    @property
    def name(self) -> str:
        """The stage's name, by which helper runs find its parts."""
        ...

    @property
    def parts(self) -> Parts:
        """Parts from helper runs; the attempt opens them, and clears them before it publishes."""
        ...

    def store(self) -> list[PublishedFile]:
        """Store the files where they stay. After an error, a second call stores only the rest.

        Returns every file with its size and sha256, sorted by path. Raises InvalidPayload where
        a file has the manifest's name, ResultsUnwritable where the files cannot be written.
        """
        ...

    def set_aside(self, folder: Path) -> str:
        """Move a folder of files to `<job id>.failed` beside the place of the result.

        Returns the new place. Raises InvalidPayload or ResultsUnwritable where it cannot be moved.
        """
        ...

    def publish(self, manifest: Manifest) -> Result:
        """Publish the stored files as the job's result, atomically.

        Returns the published result: another attempt's, where that attempt was first. Raises
        InvalidPayload or ResultsUnwritable where nothing can be published.
        """
        ...


class ResultsRoot(Protocol):
    """The place of all results: a folder, or a prefix in S3."""

    @property
    def fails_transiently(self) -> bool:
        """Whether calls can fail transiently and should be retried."""
        ...

    def open_stage(self, directory: str, job: UUID, attempt: UUID) -> AbstractContextManager[Stage]:
        """Open a stage for one attempt at `job`, removed when the block ends, published or not.

        Raises InvalidPayload where `directory` cannot hold a result, ResultsUnwritable where the
        stage cannot be written, StageDiscarded where the block fails because the stage was removed.
        """
        ...

    def parts(self, directory: str, job: UUID, stage: str) -> Parts:
        """Give the parts of another attempt's stage, by the stage's name."""
        ...

    def staged(self) -> set[tuple[UUID, UUID]]:
        """Job id and attempt id of every stage that this host sees. Makes no request to S3."""
        ...

    def discard_stages(self, job: UUID, attempt: UUID | None = None) -> None:
        """Remove the stages of one attempt at a job, or of all. Only once those have ended.

        Files of a published result are never touched.
        """
        ...

    def is_published(self, directory: str, job: UUID) -> bool:
        """Whether a job's result is published."""
        ...

    def find(self, directory: str, job: UUID) -> Result | None:
        """The result of a job; None where none is published. Raises CorruptResult."""
        ...

    def search(self, job: UUID) -> Result | None:
        """As `find`, in all directories: slow. Raises CorruptResult."""
        ...

    def remove_old(self, directory: str, task: str, before: datetime) -> int:
        """Remove a task's results in a directory from before a time. Returns how many."""
        ...

    def check(self) -> None:
        """Check that results can be written. Raises PrefectureError where they cannot."""
        ...
