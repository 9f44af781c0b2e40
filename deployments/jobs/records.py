"""What is told of jobs and compute tasks: the same by Prefect's API and through the gateway.

Nothing here imports Prefect: a command that works through the gateway does not need it.
"""

import json
import logging
import shlex
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

Outcome = Literal["completed", "failed", "cancelled"]
SETTLED = 3.0
"""Seconds in which Failed may still become Completed, if the result turns out to be published."""
LONGEST_OUTAGE = 600.0
"""Seconds for which a server may be unavailable while a job is followed."""
RESTART_KEY = "restart:"
"""Begins Prefect's idempotency key of a job that was submitted once more."""
AWAY = "server away"
"""The state of a job while its server does not answer."""


class JobState(StrEnum):
    """The state of a job, as users see it."""

    SCHEDULED = "scheduled"
    """Not due yet."""
    WAITING = "waiting"
    """Due and waiting in its queue; or its next attempt is, perhaps after a pause."""
    BLOCKED = "blocked"
    """Waiting for other jobs to end."""
    HELD = "held"
    """Not to start before it is released."""
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CRASHED = "crashed"
    """The latest attempt has crashed, and the next is about to be created."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
ACTIVE = tuple(state for state in JobState if state not in ENDED)
HOLDABLE = (JobState.WAITING, JobState.SCHEDULED, JobState.BLOCKED)
RELEASABLE = (JobState.HELD,)
MOVABLE = (*HOLDABLE, *RELEASABLE)


@dataclass(frozen=True)
class JobRecord:
    """A job, from its latest attempt. Times in UTC, durations in seconds."""

    job: UUID
    task: str
    name: str
    """Its name in the UI."""
    results_directory: str
    queue: str
    tags: tuple[str, ...]
    state: JobState
    attempt: int
    due: datetime | None
    """When it was submitted, or the later time that it is scheduled for."""
    started: datetime | None
    ended: datetime | None
    waited: float
    """Seconds until it started; so far, if it has not."""
    ran: float
    reason: str
    """Why it has failed, crashed or been cancelled, or what it waits for; empty otherwise."""

    def as_json(self) -> dict[str, Any]:
        """The job as JSON."""
        plain = asdict(self)
        times = ("due", "started", "ended")
        plain |= {name: plain[name] and plain[name].isoformat() for name in times}
        return plain | {"job": str(self.job), "tags": list(self.tags)}


@dataclass(frozen=True)
class Listing:
    """Jobs of a selection."""

    jobs: list[JobRecord]
    is_all: bool
    """Whether these are all jobs of the selection."""
    total: int | None
    """How many jobs the selection has; None where only reading all of them would tell, in a list
    that goes on with `after`, and where nobody asked."""
    next: str | None = None
    """Where the list goes on, as `after`; None at its end."""


@dataclass(frozen=True)
class Estimate:
    """When a job is likely to start or to end."""

    event: Literal["starts", "ends"]
    seconds: float
    """Seconds from now."""
    basis: str


@dataclass(frozen=True)
class Explanation:
    """The state of a job and the reasons for it."""

    job: JobRecord
    reasons: list[str]
    """Why it is in its state, the most important first."""
    before: int | None
    """Number of jobs served before it; None unless it waits."""
    fraction: float | None
    """Share of the work that is done, 0 to 1; None unless it runs."""
    estimate: Estimate | None

    def as_json(self) -> dict[str, Any]:
        """The explanation as JSON."""
        estimate = None if self.estimate is None else asdict(self.estimate)
        return asdict(self) | {"job": self.job.as_json(), "estimate": estimate}


@dataclass(frozen=True)
class Progress:
    """The progress of a job at one moment."""

    job: UUID
    """The job's id, also where the query was by the id of an attempt."""
    fraction: float
    """Share of the work that the latest attempt has done, 0 to 1."""
    text: str
    """The current work; the due time, if later; or why the job, or this attempt, has ended."""
    state: str
    """Prefect's name of the state: Scheduled, Pending, Running …"""
    attempt: int
    """The latest attempt, 1 for the first."""
    ahead: int | None = None
    """How many jobs are served before it, while it waits in its queue."""
    outcome: Outcome | None = None
    """None until the job has ended. A crash is no outcome: the job is run again."""


@dataclass(frozen=True)
class Line:
    """One record of a log; its message may have several lines."""

    at: datetime
    attempt: int
    level: int
    """The level as in Python's logging: 20 is INFO, 40 is ERROR."""
    message: str
    position: str
    """How far the log is read with this line: `read_logs` goes on after it."""

    def as_json(self) -> dict[str, Any]:
        """The record as JSON, its level by name."""
        level = logging.getLevelName(self.level)
        named = {"level": level, "attempt": self.attempt, "message": self.message}
        return {"at": self.at.isoformat()} | named


@dataclass(frozen=True)
class PayloadField:
    """One field of a payload, or one inside an object of it: `generate.files`."""

    name: str
    type: str
    """In words: text, a whole number, one of …"""
    required: bool
    """Whether the object that contains it requires it."""
    default: str
    """The default value as JSON; empty where there is none."""
    description: str


@dataclass(frozen=True)
class ComputeTask:
    """A compute task on the server."""

    name: str
    description: str
    queues: tuple[str, ...]
    fields: tuple[PayloadField, ...]
    example: dict[str, Any]
    """A working payload."""
    example_needs: str
    """The requirements of the example, in words; empty where there are none."""
    schema: dict[str, Any]
    """The JSON schema of the flow's parameters."""

    @property
    def command(self) -> str:
        """A command that submits the example."""
        payload = shlex.quote(json.dumps(self.example))
        return f"prefecture submit {self.name} {payload} trial --watch"

    def as_json(self) -> dict[str, Any]:
        """The task as JSON."""
        return asdict(self) | {"command": self.command}


def printable(text: str) -> str:
    """A text without control characters, which could steer the terminal: users choose names."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
