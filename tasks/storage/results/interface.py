"""What a results root promises, on whatever it keeps results: the interface of this package.

Everything in here blocks. Where S3 keeps the results, every method but those that say otherwise
raises StorageUnavailable while it does not answer, and a PrefectureError that says why where it
refuses.
"""

from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import UUID

from tasks.contracts import Manifest, PublishedFile
from tasks.storage.results.parts import Parts


class Result(Protocol):
    """A result that stands."""

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        ...

    @property
    def location(self) -> str:
        """Where it stands: a folder, or an s3:// address. The same as its text."""
        ...

    def __str__(self) -> str: ...

    def address(self, file: PublishedFile) -> str | None:
        """The https address of one of its files, where it has one. No secret is in it."""
        ...

    def links(self) -> list[str]:
        """For each file a link that anyone can read it with for an hour; empty on a disk."""
        ...

    def verify(self) -> None:
        """Compare every file with the manifest. Raises CorruptResult naming one that differs."""
        ...

    def copy(self, target: Path) -> None:
        """Copy it to a new or empty folder, and check the copies.

        Raises CorruptResult naming one that differs, PrefectureError where it cannot copy.
        """
        ...


class Workplace(Protocol):
    """The folders that an attempt works in."""

    @property
    def files(self) -> Path:
        """What is published in the end."""
        ...

    @property
    def scratch(self) -> Path:
        """What is not."""
        ...


class Stage(Workplace, Protocol):
    """Where one attempt works, until it publishes or is discarded."""

    @property
    def name(self) -> str:
        """What others find its parts by."""
        ...

    @property
    def parts(self) -> Parts:
        """What others hand to this attempt; cleared by whoever opened it, before it publishes."""
        ...

    def store(self) -> list[PublishedFile]:
        """Bring the files to where they stay; again, after an error, only those that are missing.

        Returns every file with its size and sha256, sorted by path. Raises InvalidPayload where
        one has the manifest's name, ResultsUnwritable where they cannot be written.
        """
        ...

    def set_aside(self, folder: Path) -> str:
        """Move a folder of files to `<job id>.failed` beside where the result would stand.

        Returns the place. Raises InvalidPayload or ResultsUnwritable where it cannot be.
        """
        ...

    def publish(self, manifest: Manifest) -> Result:
        """Make the stored files a result, all at once.

        Returns the result that stands: another attempt's, where that one was first. Raises
        InvalidPayload or ResultsUnwritable where there can be none.
        """
        ...


class ResultsRoot(Protocol):
    """What all results stand under."""

    @property
    def fails_transiently(self) -> bool:
        """Whether it may be out of reach for a while, so that it is worth to try again."""
        ...

    def open_stage(self, directory: str, job: UUID, attempt: UUID) -> AbstractContextManager[Stage]:
        """A stage for one attempt at `job`, removed when the block ends, published or not.

        Raises InvalidPayload where `directory` cannot hold a result, ResultsUnwritable where the
        stage cannot be written, StageDiscarded where the block fails because someone removed it.
        """
        ...

    def parts(self, directory: str, job: UUID, stage: str) -> Parts:
        """The parts of another attempt's stage, of that name."""
        ...

    def staged(self) -> set[tuple[UUID, UUID]]:
        """The job and the attempt of every stage that is seen from this host. Asks no S3."""
        ...

    def discard_stages(self, job: UUID, attempt: UUID | None = None) -> None:
        """Remove what one attempt at a job, or all, have staged. Only once they are gone.

        What a result that stands is made of is never touched.
        """
        ...

    def is_published(self, directory: str, job: UUID) -> bool:
        """Whether a job's result stands."""
        ...

    def find(self, directory: str, job: UUID) -> Result | None:
        """The result of a job, where it stands. Raises CorruptResult."""
        ...

    def search(self, job: UUID) -> Result | None:
        """The same in whichever directory: slow. Raises CorruptResult."""
        ...

    def remove_old(self, directory: str, task: str, before: datetime) -> int:
        """Remove what a task has published in a directory before a moment. Returns how many."""
        ...

    def check(self) -> None:
        """See that results can be written. Raises PrefectureError where they cannot."""
        ...
