"""Commands that act on jobs given by id or selected by options: one, or thousands."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

from cyclopts import Parameter

from deployments.cli.output.console import confirm, err, out, say
from deployments.cli.where import EVERY_JOB, Where
from deployments.client.interface import Jobs
from deployments.client.opening import open_jobs
from deployments.jobs.many import count_in_words, for_each, narrowed
from deployments.jobs.records import (
    ACTIVE,
    ENDED,
    HOLDABLE,
    MOVABLE,
    RELEASABLE,
    JobState,
)
from deployments.jobs.request import check_queue
from tasks.errors import InvalidPayload

_COUNTED = 10  # kinds of jobs that are listed before the user is asked

_Jobs = Annotated[
    str, Parameter(help="Their ids, first digits of these, or ids of any attempts at them.")
]
_Yes = Annotated[
    bool, Parameter(name=["--yes", "-y"], help="Do not ask.", negative="", show_default=False)
]
_Action = Callable[[Jobs, str], Awaitable[str]]


def cancel(
    *jobs: _Jobs,
    where: Where = EVERY_JOB,
    yes: _Yes = False,
    wait: Annotated[bool, Parameter(negative="--no-wait")] = True,
) -> None:
    """Cancel jobs that wait, run, or have crashed and are to be run again.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture cancel --task find-primes --state waiting --tag user:anna`

    Parameters
    ----------
    wait
        Wait until nothing of them runs.
    """

    async def end(all_: Jobs, job: str) -> str:
        return await all_.cancel(job, wait=wait)

    _do("cancel", jobs, where, ACTIVE, end, yes=yes)


def hold(*jobs: _Jobs, where: Where = EVERY_JOB, yes: _Yes = False) -> None:
    """Hold jobs that wait: they start in no slot until they are released.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture hold --task find-primes --tag user:anna`
    """

    async def keep(all_: Jobs, job: str) -> str:
        return await all_.hold(job)

    _do("hold", jobs, where, HOLDABLE, keep, yes=yes)


def release(*jobs: _Jobs, where: Where = EVERY_JOB, yes: _Yes = False) -> None:
    """Let held jobs start: they enter their queue at its end.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture release --tag user:anna`
    """

    async def let(all_: Jobs, job: str) -> str:
        return await all_.release(job)

    _do("release", jobs, where, RELEASABLE, let, yes=yes, oldest_first=True, in_order=True)


def move(
    to: Annotated[str, Parameter(help="The other queue: high, normal or low.")],
    *jobs: _Jobs,
    where: Where = EVERY_JOB,
    yes: _Yes = False,
) -> None:
    """Move jobs that wait to another queue. They keep their ids, and their order.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture move low --task find-primes --queue normal`
    """
    check_queue(to)

    async def put(all_: Jobs, job: str) -> str:
        return await all_.move(job, to)

    _do("move", jobs, where, MOVABLE, put, yes=yes)


def restart(*jobs: _Jobs, where: Where = EVERY_JOB, yes: _Yes = False) -> None:
    """Submit copies of jobs that have ended, as new jobs, and print their ids.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture restart --state failed --directory sweep-7 --since 24h`
    """

    async def submit_again(all_: Jobs, job: str) -> str:
        return str(await all_.restart(job))

    _do("restart", jobs, where, ENDED, submit_again, yes=yes, oldest_first=True)


def delete(*jobs: _Jobs, where: Where = EVERY_JOB, yes: _Yes = False) -> None:
    """Delete jobs that have ended from the server, with all attempts. Their results stay.

    Name them, or select them by options: then their number is shown, and you are asked.

    Example: `prefecture delete --until 2026-11-01 --state completed`
    """

    async def remove(all_: Jobs, job: str) -> str:
        return await all_.delete(job)

    _do("delete", jobs, where, ENDED, remove, yes=yes)


def _do(
    verb: str,
    named: Sequence[str],
    where: Where,
    states: Sequence[JobState],
    action: _Action,
    *,
    yes: bool,
    oldest_first: bool = False,
    in_order: bool = False,
) -> None:
    """Apply an action to the named jobs, or to the selected jobs after asking the user.

    `in_order`: to one after the other, which is slower.
    Exits with code 1 where the action was refused for a job.
    """
    selection = where.selection()
    if named and not selection.is_everything:
        raise InvalidPayload(f"name the jobs to {verb}, or choose them by options, but not both")
    if not named:

        async def count() -> list[str]:
            wanted = narrowed(selection, states, verb)
            async with open_jobs() as jobs:
                chosen = (await jobs.list(wanted, None)).jobs
            if not chosen:
                err.print("no job matches: nothing was done")
                return []
            number = "1 job" if len(chosen) == 1 else f"{len(chosen):,} jobs"
            lines = count_in_words(chosen)
            for line in lines[:_COUNTED]:
                err.print(f"  {line}", soft_wrap=True)
            if len(lines) > _COUNTED:
                err.print(f"  and {len(lines) - _COUNTED} more kinds")
            if not confirm(f"{verb.capitalize()} {number}?", yes=yes):
                err.print("nothing was done")
                return []
            return [str(job.job) for job in (reversed(chosen) if oldest_first else chosen)]

        named = asyncio.run(count())
        if not named:
            return

    async def run() -> list[str]:
        async with open_jobs() as jobs:
            if len(named) == 1:
                say(await action(jobs, named[0]))
                return []
            done = await for_each(named, lambda job: action(jobs, job), in_order=in_order)
        for line in done.messages:
            out.print(line, soft_wrap=True)
        return done.refused

    refused = asyncio.run(run())
    for line in refused:
        err.print(f"prefecture: {line}", soft_wrap=True)
    if refused:
        sys.exit(1)
