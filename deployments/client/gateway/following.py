"""Follows jobs through a gateway, by its events."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter

from deployments.client.gateway.events import Message, listen
from deployments.client.gateway.requests import Requests
from deployments.client.interface import JobEnded
from deployments.jobs.changes import JobChange
from deployments.jobs.records import (
    AWAY,
    ENDED,
    Explanation,
    JobRecord,
    JobState,
    Line,
    Outcome,
    Progress,
    printable,
)
from tasks.contracts import WAITS_FOR_JOBS
from tasks.errors import ServerUnavailable

_PLACE = 5.0  # seconds between two looks at a waiting job's place in its queue
_PLACE_IS_OLD = "place"  # an event of our own
_RECENT = 200  # jobs that may have ended while a stream was broken
_EXPLANATION = TypeAdapter(Explanation)
_NAMES = {
    JobState.SCHEDULED: "Scheduled",
    JobState.WAITING: "Scheduled",
    JobState.BLOCKED: WAITS_FOR_JOBS,
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
    elif job.state in (JobState.BLOCKED, JobState.HELD, JobState.RUNNING):
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


def _progress(change: JobChange) -> Progress:
    name = _NAMES.get(change.state, change.state.capitalize())
    return Progress(
        change.job, change.fraction, change.text, name, change.attempt, outcome=change.outcome
    )


async def follow(requests: Requests, job: UUID) -> AsyncGenerator[Progress]:
    """The progress of a job until it has ended."""
    found = await _explained(requests, job)
    once = requests.with_patience(0)
    heard: asyncio.Queue[Message | None] = asyncio.Queue()
    listening = asyncio.create_task(_hear(requests, f"/jobs/{found.job.job}/events", heard))
    last = shown = progress_of(found)
    try:
        while True:
            waits = shown.state == "Scheduled"
            try:
                message = await asyncio.wait_for(heard.get(), _PLACE if waits else None)
            except TimeoutError:
                message = Message(_PLACE_IS_OLD)
            if message is None:
                await listening  # raises why
                yield progress_of(await _explained(requests, job))  # it was over already
                return
            match message.event:
                case "job":
                    change = JobChange.model_validate_json(message.data)
                    if change.state in ENDED and change.outcome is None:
                        continue  # it may still turn out to be completed
                    last = _progress(change)
                    shown = await _with_place(once, last)
                case "end":
                    continue
                case "open" if shown.state != AWAY:
                    continue  # the state of the job comes next
                case "away" | "lost":
                    shown = replace(last, state=AWAY, text="", ahead=None)
                case _:
                    shown = await _with_place(once, last)
            yield shown
            if shown.outcome is not None:
                return
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def read_logs(requests: Requests, job: UUID, *, follow: bool) -> AsyncGenerator[Line]:
    """The log of a job; with `follow`, until it has ended."""
    if not follow:
        for each in await requests.get(f"/jobs/{job}/logs"):
            yield _line(each)
        return
    await _explained(requests, job)  # at the first question, nothing is waited out
    async with aclosing(listen(requests, f"/jobs/{job}/logs?follow=true")) as messages:
        async for message in messages:
            match message.event:
                case "line":
                    yield _line(json.loads(message.data), message.id)
                case "end" if (await _explained(requests, job)).job.state in ENDED:
                    return
                case _:
                    pass


async def follow_ends(
    requests: Requests, limit: int, ended_last: Callable[[int], Awaitable[list[JobRecord]]]
) -> AsyncGenerator[JobEnded]:
    """The last jobs that have ended, then each that ends from now on, without end.

    `ended_last`: the last jobs that have ended, so many at most, the oldest first.
    """
    known: set[UUID] = set()
    is_first = True
    async with aclosing(listen(requests, "/events")) as messages:
        async for message in messages:
            match message.event:
                case "job":
                    change = JobChange.model_validate_json(message.data)
                    if change.outcome is not None and change.job not in known:
                        known.add(change.job)
                        yield of_change(change)
                case "open" | "reset" if is_first or message.event == "reset":
                    # Listed once the stream is open: no end is lost between the two.
                    recent = await ended_last(max(limit, _RECENT))
                    new = [record for record in recent if record.job not in known]
                    known |= {record.job for record in new}
                    for record in new[max(0, len(new) - limit) :] if is_first else new:
                        yield ended(record)
                    is_first = False
                case _:
                    pass


def ended(job: JobRecord) -> JobEnded:
    """A job that has ended, as the inbox shows it."""
    return _ended(job, str(job.state), job.reason)


def of_change(change: JobChange) -> JobEnded:
    """The same, from the last change of a job."""
    return _ended(change, str(change.outcome), change.text)


def _ended(job: JobRecord | JobChange, outcome: str, reason: str) -> JobEnded:
    at = job.ended
    when = at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else ""
    what = f"`prefecture results {job.job}`" if outcome == "completed" else reason
    words = (when, str(job.job), job.task, job.results_directory, outcome, what)
    plain = {
        "job": str(job.job),
        "task": job.task,
        "name": job.name,
        "results_directory": job.results_directory,
        "queue": job.queue,
        "tags": [*job.tags],
        "outcome": outcome,
        "attempt": job.attempt,
        "reason": reason,
        "ended": at and at.isoformat(),
    }
    return JobEnded(printable("  ".join(words)), plain)


async def _hear(requests: Requests, path: str, heard: "asyncio.Queue[Message | None]") -> None:
    """Put the messages of a stream into a queue, and None at its end."""
    try:
        async with aclosing(listen(requests, path)) as messages:
            async for message in messages:
                heard.put_nowait(message)
    finally:
        heard.put_nowait(None)


async def _with_place(requests: Requests, progress: Progress) -> Progress:
    """The progress of a job, with its place in the queue while it waits: no event tells that."""
    if progress.state == "Scheduled":
        with suppress(ServerUnavailable):
            now = progress_of(await _explained(requests, progress.job))
            return now if now.state == progress.state else progress
    return progress


async def _explained(requests: Requests, job: UUID) -> Explanation:
    return _EXPLANATION.validate_python(await requests.get(f"/jobs/{job}"))


def _line(answer: Mapping[str, Any], position: str = "") -> Line:
    level = logging.getLevelNamesMapping().get(str(answer["level"]), logging.INFO)
    at = datetime.fromisoformat(str(answer["at"]))
    return Line(at, int(answer["attempt"]), level, str(answer["message"]), position)
