"""Follows jobs through a gateway."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from deployments.client.gateway.requests import Requests
from deployments.client.interface import JobEnded
from deployments.jobs.records import (
    AWAY,
    LONGEST_OUTAGE,
    SETTLED,
    Explanation,
    JobRecord,
    JobState,
    Line,
    Outcome,
    Progress,
    printable,
)
from tasks.errors import ServerUnavailable

_POLL = 1.0  # seconds between two queries
_EXPLANATION = TypeAdapter(Explanation)
_NAMES = {
    JobState.SCHEDULED: "Scheduled",
    JobState.WAITING: "Scheduled",
    JobState.STARTING: "Pending",
}  # Prefect's names of states, where they are others than ours
_OUTCOMES: dict[JobState, Outcome] = {
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


def progress_of(found: Explanation) -> Progress:
    """The progress of a job, from its explanation."""
    job = found.job
    text = job.reason
    if job.state is JobState.SCHEDULED and job.due is not None:
        text = f"due at {job.due.astimezone(UTC):%F %T} UTC"
    elif job.state is JobState.RUNNING:
        text = found.reasons[0] if found.reasons else ""
    return Progress(
        job=job.job,
        fraction=1.0 if job.state is JobState.COMPLETED else found.fraction or 0.0,
        text=text,
        state=_NAMES.get(job.state, job.state.capitalize()),
        attempt=job.attempt,
        ahead=found.before,
        outcome=_OUTCOMES.get(job.state),
    )


async def follow(requests: Requests, job: UUID) -> AsyncGenerator[Progress]:
    """The progress of a job until it has ended. Ten minutes without an answer are waited out."""
    now = asyncio.get_running_loop().time
    progress = progress_of(await _explained(requests, job))
    answered, ended = now(), None
    once = requests.with_patience(0)
    while True:
        if progress.outcome is None:
            ended = None
            yield progress
        else:
            ended = ended or now()
            if progress.outcome == "completed" or now() - ended > SETTLED:
                break
        await asyncio.sleep(_POLL)
        try:
            progress = progress_of(await _explained(once, job))
            answered = now()
        except ServerUnavailable:
            if now() - answered > LONGEST_OUTAGE:
                raise
            if progress.outcome is None:
                progress = replace(progress, state=AWAY, text="", ahead=None)
    yield progress


async def read_logs(requests: Requests, job: UUID, *, follow: bool) -> AsyncGenerator[Line]:
    """The log of a job; with `follow`, until it has ended."""
    seen = Counter[Line]()
    while True:
        is_over = not follow or progress_of(await _explained(requests, job)).outcome is not None
        lines = [_line(each) for each in await requests.get(f"/jobs/{job}/logs")]
        for line in (Counter(lines) - seen).elements():
            yield line
        seen = Counter(lines)
        if is_over:
            return
        await asyncio.sleep(_POLL)


async def follow_ends(requests: Requests, known: Sequence[JobRecord]) -> AsyncGenerator[JobRecord]:
    """Each job that ends from now on."""
    raise NotImplementedError
    yield known[0]


def ended(job: JobRecord) -> JobEnded:
    """A job that has ended, as the inbox shows it."""
    when = job.ended.astimezone().strftime("%Y-%m-%d %H:%M:%S") if job.ended else ""
    completed = job.state is JobState.COMPLETED
    what = f"`prefecture results {job.job}`" if completed else job.reason
    text = f"{when}  {job.job}  {job.task}  {job.results_directory}  {job.state}  {what}"
    return JobEnded(printable(text), job.as_json())


async def _explained(requests: Requests, job: UUID) -> Explanation:
    return _EXPLANATION.validate_python(await requests.get(f"/jobs/{job}"))


def _line(answer: Mapping[str, Any]) -> Line:
    level = logging.getLevelNamesMapping().get(str(answer["level"]), logging.INFO)
    at = datetime.fromisoformat(str(answer["at"]))
    return Line(at, int(answer["attempt"]), level, str(answer["message"]))
