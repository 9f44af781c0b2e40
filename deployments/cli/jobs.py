"""Commands for whoever has a job done."""

import asyncio
import logging
import shlex
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from cyclopts import Parameter

from deployments import tables
from deployments.cli.console import err, out, say
from deployments.cli.watching import watch_to_end
from deployments.connection import connect
from deployments.jobs import finished
from deployments.jobs.attempts import parse_job
from deployments.jobs.bulk import submit_many as submit_jobs
from deployments.jobs.cancel import cancel as cancel_job
from deployments.jobs.logs import read_logs
from deployments.jobs.request import Terms, parse_payload
from deployments.jobs.results import find_result, read_result
from deployments.jobs.submit import submit as submit_job
from tasks.contracts import Queue
from tasks.errors import InvalidPayload
from tasks.settings import get_settings

_CANCEL_MARGIN = 60.0  # seconds a cancelled job may take to be gone, beside its grace
_INTERRUPTED = 130

_Tags = Annotated[tuple[str, ...], Parameter(negative="")]
_Flag = Annotated[bool, Parameter(negative="")]


def submit(
    task: str,
    payload: str,
    results_directory: str,
    *,
    queue: str = Queue.NORMAL,
    tag: _Tags = (),
    key: str | None = None,
    name: str | None = None,
    max_duration: int | None = None,
    memory: str | None = None,
    watch: _Flag = False,
) -> None:
    """Submit a job and print its id.

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    payload
        What it works on, as JSON: '{"source": "photos/*.jpg", "ratio": 0.4}'.
    results_directory
        The name that results are published under.
    queue
        high, normal or low.
    tag
        A tag for the job, e.g. user:anna; may be repeated.
    key
        Your own name for this request: submitted again with the same key, it is the same job.
    name
        What the UI calls the job.
    max_duration
        Seconds one attempt may run. Default: what the task's deployment says.
    memory
        Memory of its container, swap included: a number and k, m or g.
    watch
        Follow the job to its end, as `prefecture watch` does.
    """
    terms = Terms(task, results_directory, queue, tag, max_duration, memory, name)

    async def submit_now() -> UUID:
        async with connect() as client:
            return await submit_job(client, terms, parse_payload(payload), key)

    job = asyncio.run(submit_now())
    out.print(str(job))
    if watch:
        _watch(job)


def submit_many(
    task: str,
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    results_directory: str,
    *,
    queue: str = Queue.NORMAL,
    tag: _Tags = (),
    key: str | None = None,
    name: str | None = None,
    max_duration: int | None = None,
    memory: str | None = None,
) -> None:
    """Submit a job for each line of a file and print their ids, in that order.

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    file
        A payload as JSON on each line; - is standard input.
    results_directory
        The name that results are published under, each job's in a folder of its own.
    queue
        high, normal or low.
    tag
        A tag for each job, e.g. user:anna; may be repeated.
    key
        Your own name for these requests: given again, only the missing jobs are submitted.
    name
        What the UI calls the jobs.
    max_duration
        Seconds one attempt may run. Default: what the task's deployment says.
    memory
        Memory of each job's container, swap included: a number and k, m or g.
    """
    terms = Terms(task, results_directory, queue, tag, max_duration, memory, name)
    payloads = [parse_payload(line, f"line {number}: ") for number, line in _lines(file)]
    own_key = key or str(uuid4())

    async def submit_now() -> list[UUID]:
        async with connect() as client:
            return await submit_jobs(client, terms, payloads, own_key)

    try:
        jobs = asyncio.run(submit_now())
    except KeyboardInterrupt:
        err.print(
            f"some may be submitted: the same again with --key {shlex.quote(own_key)} submits the "
            "rest, none of them twice",
            soft_wrap=True,
        )
        sys.exit(_INTERRUPTED)
    for job in jobs:
        out.print(str(job))


def watch(job: str) -> None:
    """Follow a job to its end: exit code 0 if it completes, 1 if it fails, 2 if it is cancelled.

    Ctrl-C stops watching, and not the job.

    Parameters
    ----------
    job
        The id of the job, or of any attempt at it.
    """
    _watch(parse_job(job))


def logs(job: str, *, follow: _Flag = False) -> None:
    """Print what a job has logged, in all of its attempts.

    Parameters
    ----------
    job
        Its id, or that of any attempt at it.
    follow
        Go on until the job has ended.
    """
    asyncio.run(_print_logs(parse_job(job), follow=follow))


async def _print_logs(job: UUID, *, follow: bool) -> None:
    async with aclosing(read_logs(job, follow=follow)) as lines:
        async for line in lines:
            attempt = f"attempt {line.attempt} " if line.attempt > 1 else ""
            level = logging.getLevelName(line.level)
            say(f"{line.at.astimezone():%H:%M:%S} {level:<7} {attempt}{line.message}")


def cancel(job: str, *, wait: Annotated[bool, Parameter(negative="--no-wait")] = True) -> None:
    """Cancel a job, whether it waits, runs or is to be run again.

    Parameters
    ----------
    job
        The id of the job, or of any attempt at it.
    wait
        Wait until nothing of it runs any more.
    """
    limit = get_settings().cancel_grace + _CANCEL_MARGIN

    async def end() -> str:
        async with connect() as client:
            return await cancel_job(client, job, limit, wait=wait)

    say(asyncio.run(end()))


def restart(job: str) -> None:
    """Submit a job that has ended again, as a new job, and print its id.

    Parameters
    ----------
    job
        The id of the job, or of any attempt at it.
    """

    async def submit_now() -> UUID:
        async with connect() as client:
            return await finished.restart(client, job)

    out.print(str(asyncio.run(submit_now())))


def delete(job: str) -> None:
    """Delete a job that has ended from the server, all its attempts. What it has published stays.

    Parameters
    ----------
    job
        The id of the job, or of any attempt at it.
    """

    async def forget() -> str:
        async with connect() as client:
            return await finished.delete(client, job)

    say(asyncio.run(forget()))


def results(job: str, *, to: Path | None = None) -> None:
    """List a job's results, or copy them, after checking every file.

    Where they are kept in S3, the list has a link to each file that is valid for an hour: anyone
    who has the link can read the file.

    Parameters
    ----------
    job
        The id of the job.
    to
        A new folder to copy them to.
    """

    async def show() -> None:
        async with connect() as client:
            result = await find_result(client, get_settings(), job)
        await read_result(result, to)
        out.print(tables.results_table(to or result, result.manifest))
        if to is None:
            for link in result.links():
                out.print(link, soft_wrap=True, markup=False, highlight=False)

    asyncio.run(show())


def _watch(job: UUID) -> None:
    try:
        sys.exit(asyncio.run(watch_to_end(job, out)))
    except KeyboardInterrupt:
        err.print(f"job {job} goes on: `prefecture watch {job}` follows it again", soft_wrap=True)
        sys.exit(_INTERRUPTED)


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines of a file that hold anything, each with its number."""
    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPayload(f"{file} cannot be read: {error}") from error
    return [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
