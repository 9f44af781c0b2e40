"""What users can do with jobs, wherever they are: the seam between Prefect's API and a gateway."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import ComputeTask, Explanation, Line, Listing, Progress
from deployments.jobs.request import Terms
from tasks.contracts import Manifest

CANCEL_MARGIN = 60.0
"""Seconds that a cancelled job may take to end, beside its grace."""


@dataclass(frozen=True)
class JobEnded:
    """A job that has ended, as the inbox shows it."""

    line: str
    """In one line, without control characters."""
    as_json: Mapping[str, Any]


class FoundResult(Protocol):
    """The published result of a job."""

    @property
    def manifest(self) -> Manifest:
        """The manifest of the result."""
        ...

    @property
    def location(self) -> str:
        """Where its files are: a folder, or an address."""
        ...

    @property
    def links(self) -> Sequence[str]:
        """A link for each file that anyone can read it with for an hour; empty where there is
        none."""
        ...

    async def check(self) -> bool:
        """Compare each file with the manifest, where that needs no download. Returns whether it
        was done. Raises CorruptResult."""
        ...

    async def copy(self, to: Path) -> None:
        """Copy the files to a new folder, whole or not at all, and compare them with the manifest.

        Raises CorruptResult, InvalidPayload for a folder that has files, and PrefectureError where
        copying fails.
        """
        ...


class Jobs(Protocol):
    """Jobs and compute tasks. `job`, as a text, is an id, that of any attempt, or a prefix.

    Every method raises ServerUnavailable where there is no answer, and PrefectureError with the
    reason where the answer is a refusal.
    """

    async def submit(self, terms: Terms, payload: Mapping[str, Any], key: str | None) -> UUID:
        """Submit a job. Raises InvalidPayload, and KeyTaken for a key of another job."""
        ...

    async def submit_many(
        self, terms: Terms, payloads: Sequence[Mapping[str, Any]], key: str | None
    ) -> list[UUID]:
        """Submit a job for each payload, all of which are checked first. A call with the same key
        continues an interrupted one."""
        ...

    async def resolve(self, job: str) -> UUID:
        """The id that a text names. Raises InvalidPayload where it names no job, or several."""
        ...

    async def progress(self, job: UUID) -> Progress:
        """The current progress of a job. Raises InvalidPayload where there is no such job."""
        ...

    def follow(self, job: UUID) -> AsyncGenerator[Progress]:
        """The progress of a job until it has ended: the last has an outcome.

        Ten minutes without a server are waited out.
        """
        ...

    def logs(self, job: UUID, *, follow: bool) -> AsyncGenerator[Line]:
        """The log of a job, oldest line first; with `follow`, until it has ended."""
        ...

    async def list(self, selection: Selection, limit: int | None) -> Listing:
        """The newest jobs of a selection, `limit` at most."""
        ...

    async def explain(self, job: UUID) -> Explanation:
        """The state of a job, the reasons for it, its place in the queue, and an estimate."""
        ...

    async def tasks(self, name: str | None = None) -> "list[ComputeTask]":
        """All compute tasks, or one. Raises InvalidPayload where there is none of that name."""
        ...

    async def cancel(self, job: str, *, wait: bool) -> str:
        """Cancel a job; `wait`: until nothing of it runs. Returns its new state as a sentence."""
        ...

    async def hold(self, job: str) -> str:
        """Hold a job that waits: it starts when it is released. Returns its state as a sentence."""
        ...

    async def release(self, job: str) -> str:
        """Let a held job start, at the end of its queue. Returns its state as a sentence."""
        ...

    async def move(self, job: str, queue: str) -> str:
        """Move a job that waits to another queue. Returns its state as a sentence."""
        ...

    async def restart(self, job: str) -> UUID:
        """Submit a copy of a job that has ended, as a new job."""
        ...

    async def delete(self, job: str) -> str:
        """Delete a job that has ended. Its result stays. Returns a message."""
        ...

    async def result(self, job: str) -> FoundResult:
        """The result of a job. Raises PrefectureError, with the job's state, where it has none."""
        ...

    def ends(self, limit: int, *, follow: bool) -> AsyncGenerator[JobEnded]:
        """The last `limit` jobs that have ended, newest last; with `follow`, also each that ends
        from now on, without end."""
        ...
