"""Many jobs at once: chosen by filters, then each cancelled, restarted or deleted."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from prefect.client.orchestration import PrefectClient

from deployments.jobs.queries.listing import JobRecord, list_jobs
from deployments.jobs.queries.selection import JobState, Selection
from tasks.errors import InvalidPayload, PrefectureError

_AT_ONCE = 8  # requests: what else the server is asked meanwhile must not wait long


@dataclass(frozen=True)
class Done:
    """What became of many jobs."""

    said: list[str]
    """A line for each job that it was done with."""
    refused: list[str]
    """A line for each job that it was not done with: why."""


async def choose(
    client: PrefectClient, selection: Selection, states: Sequence[JobState], verb: str
) -> list[JobRecord]:
    """The jobs of a selection that are in one of `states`, the newest first.

    Jobs that are planned for later are meant only where the selection names that state. Raises
    InvalidPayload where the selection has no criterion, or names other states; `verb` is what is to
    be done, for the message.
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
    chosen = replace(selection, states=selection.states or usual)
    return (await list_jobs(client, chosen)).jobs


def count_in_words(jobs: Iterable[JobRecord]) -> list[str]:
    """How many jobs there are of each task and state, the most first, a line for each."""
    counts = Counter((job.task, job.state, job.queue) for job in jobs)
    return [
        f"{number:,} {task} {state} in {queue}"
        for (task, state, queue), number in counts.most_common()
    ]


async def for_each(jobs: Sequence[str], action: Callable[[str], Awaitable[str]]) -> Done:
    """Do something with each job, some at a time; one that is refused does not stop the others.

    `action` takes the job's id, returns what it has done, and raises PrefectureError where it has
    not. What it returned is in the order of the jobs.
    """
    turn = asyncio.Semaphore(_AT_ONCE)

    async def one(job: str) -> tuple[bool, str]:
        async with turn:
            try:
                return True, await action(job)
            except PrefectureError as error:
                return False, str(error)

    outcomes = await asyncio.gather(*(one(job) for job in jobs))
    return Done(
        said=[line for done, line in outcomes if done],
        refused=[line for done, line in outcomes if not done],
    )
