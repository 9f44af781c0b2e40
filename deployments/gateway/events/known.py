"""What is known of the jobs, and what of it is news for the clients."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType

from deployments.gateway.events.changes import Attempt, Moved
from deployments.gateway.events.journal import Journal
from deployments.gateway.events.streams import Streams
from deployments.jobs.changes import JobChange
from deployments.jobs.records import SETTLED, JobState
from tasks.contracts import plain
from tasks.runtime.events import JobProgress

_QUIET = (JobState.SCHEDULED, JobState.WAITING, JobState.BLOCKED, JobState.HELD)
_KEPT = timedelta(minutes=10)  # for which an ended job is remembered
_MARGIN = 0.1  # seconds
_SHOWS_PROGRESS = (JobState.RUNNING, JobState.CANCELLING)


@dataclass
class _Known:
    """A job in its newest state."""

    run: UUID
    moved: datetime
    """When the attempt entered its state."""
    change: JobChange
    is_journaled: bool = False
    """Whether it is in the journal."""


class KnownJobs:
    """The jobs of which anything is known. Each change goes to the journal, then to the streams."""

    def __init__(self, journal: Journal, streams: Streams) -> None:
        self.journal = journal
        self._streams = streams
        self._jobs: dict[UUID, _Known] = {}
        self._runs: dict[UUID, UUID] = {}  # the job of each newest attempt

    def open(self) -> None:
        """Read the journal, at the start of the watcher."""
        self.journal.open()
        for entry in self.journal:
            self._keep(_Known(entry.run, entry.moved, entry.change, is_journaled=True))

    def renew(self) -> None:
        """Forget everything."""
        self.journal.renew()
        self._jobs.clear()
        self._runs.clear()

    def latest(self, job: UUID) -> JobChange | None:
        """The newest state of a job. None where it is not known."""
        known = self._jobs.get(job)
        return known and known.change

    def is_journaled(self, job: UUID) -> bool:
        """Whether the newest state of a job is in the journal."""
        known = self._jobs.get(job)
        return known is not None and known.is_journaled

    def busy(self) -> list[UUID]:
        """The newest attempts at jobs that neither wait nor have ended."""
        return [
            known.run
            for known in self._jobs.values()
            if known.change.outcome is None and known.change.state not in _QUIET
        ]

    def has_seen(self, run: UUID, moved: datetime) -> bool:
        """Whether a state of an attempt, or a later one, is known."""
        job = self._runs.get(run)
        return job is not None and self._jobs[job].moved >= moved

    def forget(self, runs: Iterable[UUID]) -> None:
        """Forget jobs whose attempts have been deleted."""
        for run in runs:
            if job := self._runs.pop(run, None):
                del self._jobs[job]

    def completed(self, until: datetime) -> None:
        """All changes until a moment are known."""
        self.journal.complete(until)
        old = until - _KEPT
        self.forget([k.run for k in self._jobs.values() if k.change.outcome and k.change.at < old])

    def learn(self, attempt: Attempt, moved: Moved, now: datetime, *, is_news: bool = True) -> None:
        """Learn the state of an attempt. `now`: by the server's clock; `is_news`: whether it is a
        change for clients where nothing is known of the job."""
        known = self._jobs.get(attempt.job)
        if known is not None and not _replaces(known, attempt, moved):
            return
        change = moved.change(attempt, known and known.change, now)
        if known is None and not is_news:
            self._keep(_Known(attempt.run, moved.at, change))
        elif known is None or _differs(known.change, change):
            self._publish(attempt.run, moved.at, change)
        else:
            known.moved = moved.at
        if change.outcome is None and change.ended is not None:
            delay = SETTLED - (now - moved.at).total_seconds()
            asyncio.get_running_loop().call_later(
                max(0.0, delay) + _MARGIN, self._settle, attempt, moved
            )

    def progress(self, progress: JobProgress, at: datetime) -> None:
        """Learn of the progress of an attempt."""
        known = self._jobs.get(progress.job)
        if (
            known is None
            or known.change.attempt != progress.attempt
            or known.change.state not in _SHOWS_PROGRESS
            # It came late, or once more.
            or progress.fraction < known.change.fraction
            or (progress.fraction, progress.text) == (known.change.fraction, known.change.text)
        ):
            return
        new = {"fraction": progress.fraction, "text": progress.text}
        change = known.change.model_copy(update=new | {"at": plain(at).astimezone(UTC)})
        self._publish(known.run, known.moved, change)

    def _settle(self, attempt: Attempt, moved: Moved) -> None:
        """Let a job that is still in a final state have its outcome."""
        known = self._jobs.get(attempt.job)
        if known is not None and (known.run, known.moved) == (attempt.run, moved.at):
            self.learn(attempt, moved, moved.at + timedelta(seconds=SETTLED + _MARGIN))

    def _publish(self, run: UUID, moved: datetime, change: JobChange) -> None:
        entry = self.journal.add(run, moved, change)
        self._keep(_Known(run, moved, change, is_journaled=True))
        self._streams.publish(entry)

    def _keep(self, known: _Known) -> None:
        former = self._jobs.get(known.change.job)
        if former is not None:
            self._runs.pop(former.run, None)
        self._jobs[known.change.job] = known
        self._runs[known.run] = known.change.job


def _replaces(known: _Known, attempt: Attempt, moved: Moved) -> bool:
    """Whether a state is the newest of its job."""
    if attempt.run == known.run:
        # At the same time: a wait that has come to its due time, or an end that is final by now.
        return moved.at >= known.moved
    if known.change.outcome == "completed":
        return False  # the completed attempt decides
    return attempt.number > known.change.attempt or moved.type is StateType.COMPLETED


def _differs(one: JobChange, other: JobChange) -> bool:
    """Whether a client is to be told of a change."""
    as_of = {"at": other.at}
    return one.model_copy(update=as_of) != other
