"""What is known of results that may be removed, and of those that were."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from pydantic import BaseModel

from tasks.contracts import Manifest
from tasks.errors import ResultExpired

REMOVED = ".expired"
"""The folder, or what keys begin with, of the records of removed results, under the root."""


@dataclass(frozen=True)
class KeptResult:
    """A published result."""

    place: str
    """The folder of its manifest, relative to the root."""
    job: UUID
    flow_run: UUID
    task: str
    user: str | None
    bytes: int
    published: datetime
    expires: datetime | None
    """As its job has asked; None: its job did not say."""

    @classmethod
    def of(cls, place: str, manifest: Manifest) -> "KeptResult":
        """The result at a place under the root."""
        return cls(
            place,
            manifest.job,
            manifest.flow_run,
            manifest.task,
            manifest.user,
            manifest.bytes,
            manifest.published,
            manifest.expires,
        )

    def removed(self, reason: str) -> "RemovedResult":
        """The record of its removal, now."""
        return RemovedResult(
            job=self.job, place=self.place, bytes=self.bytes, at=datetime.now(UTC), reason=reason
        )


class RemovedResult(BaseModel):
    """The record of a result that was removed."""

    job: UUID
    place: str
    bytes: int
    at: datetime
    reason: str

    def error(self) -> ResultExpired:
        """What users are told who ask for it."""
        return ResultExpired(
            f"the result of job {self.job} was removed at {self.at:%F %T} UTC: {self.reason}: run "
            "the job again"
        )


class Retention(Protocol):
    """The results under a root. Every method blocks, and raises as those of ResultsRoot do."""

    def results(self) -> Iterator[KeptResult]:
        """All published results. Those whose manifest cannot be read are left out."""
        ...

    def remove(self, result: KeptResult, reason: str) -> bool:
        """Remove a result, at once for everybody. Returns False where somebody reads it now, or
        it is gone."""
        ...

    def removed(self, job: UUID) -> RemovedResult | None:
        """The record of a job's result that was removed; None where there is none."""
        ...

    def finish(self) -> None:
        """Delete what is left of removed results, and their records after a year."""
        ...
