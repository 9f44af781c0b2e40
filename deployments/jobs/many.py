"""Applies an action to many jobs: chosen by filters, then cancelled, restarted or deleted."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import JobRecord, JobState
from tasks.errors import InvalidPayload, PrefectureError

_AT_ONCE = 8  # requests: others must not wait long for the server meanwhile


@dataclass(frozen=True)
class Done:
    """The outcome of an action on many jobs."""

    messages: list[str]
    """A line for each job for which it succeeded."""
    refused: list[str]
    """A line for each job for which it was refused: the reason."""
    reached: int
    """How many jobs these are: the first ones."""


def narrowed(selection: Selection, states: Sequence[JobState], verb: str) -> Selection:
    """The selection of those jobs that are in one of `states`.

    Jobs that are scheduled for later are included only where the selection names that state. Raises
    InvalidPayload where the selection has no criterion, or names other states. `verb`: the action,
    for the message.
    """
    if selection.is_everything:
        raise InvalidPayload(
            f"name the jobs to {verb}, or choose them: --state, --task, --tag, --queue, "
            "--directory, --since, --until"
        )
    wrong = [state for state in selection.states if state not in states]
    if wrong:
        raise InvalidPayload(
            f"state: a job that is {wrong[0]} is none to {verb}: choose {', '.join(states)}"
        )
    usual = tuple(state for state in states if state is not JobState.SCHEDULED)
    return replace(selection, states=selection.states or usual)


def count_in_words(jobs: Iterable[JobRecord]) -> list[str]:
    """A line for each task, state and queue with its number of jobs, the largest number first."""
    counts = Counter((job.task, job.state, job.queue) for job in jobs)
    return [
        f"{number:,} {task} {state} in {queue}"
        for (task, state, queue), number in counts.most_common()
    ]


async def for_each(
    jobs: Sequence[str],
    action: Callable[[str], Awaitable[str]],
    *,
    in_order: bool = False,
    until: float = math.inf,
) -> Done:
    """Apply an action to each job, some at a time; a refusal does not stop the others.

    `in_order`: one after the other. `until`: the time, by the clock of the event loop, after which
    no further job is begun.
    `action` takes the job's id and returns a message, or raises PrefectureError to refuse. The
    messages are in the order of the jobs.
    """
    turn = asyncio.Semaphore(1 if in_order else _AT_ONCE)
    clock = asyncio.get_running_loop().time

    async def one(job: str) -> tuple[bool, str] | None:
        async with turn:  # in the order of the jobs
            if clock() > until:
                return None
            try:
                return True, await action(job)
            except PrefectureError as error:
                return False, str(error)

    outcomes = [each for each in await asyncio.gather(*(one(job) for job in jobs)) if each]
    return Done(
        messages=[line for done, line in outcomes if done],
        refused=[line for done, line in outcomes if not done],
        reached=len(outcomes),
    )
