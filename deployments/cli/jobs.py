"""Commands to submit and follow jobs, and to get their results."""

import asyncio
import logging
import shlex
import sys
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

from cyclopts import Parameter

from deployments import tables
from deployments.cli.output.console import (
    AsJson,
    Flag,
    JobId,
    err,
    out,
    say,
    say_aside,
    say_json,
)
from deployments.cli.output.watching import watch_to_end
from deployments.cli.where import needed_span
from deployments.client.opening import open_jobs
from deployments.jobs.request import Terms, parse_payload
from tasks.errors import InvalidPayload

_INTERRUPTED = 130


@Parameter(name="*")
@dataclass(frozen=True)
class _Options:
    """Options of the commands that submit."""

    queue: str | None = None
    """high, normal or low. Default: normal; PREFECTURE_BULK_TO_LOW says when low."""
    tag: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A tag, e.g. user:anna; may be repeated."""
    name: str | None = None
    """A job's name in the UI."""
    max_duration: int | None = None
    """Seconds one attempt may run. Default: that of the task's deployment."""
    memory: str | None = None
    """Memory of a job's container, including swap: a number and k, m or g."""
    gpus: int | None = None
    """GPUs that a job has for itself: it goes to a host that offers as many."""
    on: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A label that the host must have; may be repeated."""
    after: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = ()
    """A job that must complete first, by its id or key; may be repeated."""
    after_ended: Annotated[bool, Parameter(negative="", show_default=False)] = False
    """It is enough that those jobs end, in whatever way."""
    expires: str | None = None
    """When the result may be removed: 90m, 24h, 7d or 4w after it is published."""

    def terms(self, task: str, directory: str) -> Terms:
        """The request for jobs with these options. Raises InvalidPayload where one is invalid."""
        lasts = None if self.expires is None else needed_span(self.expires, "--expires")
        kept = None if lasts is None else int(lasts.total_seconds())
        own = (self.max_duration, self.memory, self.name, self.after, self.after_ended, kept)
        own += (self.gpus, self.on)
        return Terms(task, directory, self.queue, self.tag, *own)


_USUAL = _Options()


def submit(
    task: str,
    payload: str,
    results_directory: str,
    *,
    options: _Options = _USUAL,
    key: str | None = None,
    watch: Flag = False,
) -> None:
    """Submit a job and print its id.

    `prefecture tasks` lists the tasks, with an example of each.

    Example: `prefecture submit find-primes '{"upper_bound": 1000}' numbers --watch`

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    payload
        The task's parameters as JSON: '{"source": "photos/*.jpg", "ratio": 0.4}'.
    results_directory
        The name under which the result is published.
    key
        Your own name for this request: the same request with the same key is the same job.
    watch
        Follow the job to its end, as `prefecture watch` does.
    """
    terms = options.terms(task, results_directory)

    async def submit_now() -> UUID:
        async with open_jobs(say_aside) as jobs:
            return await jobs.submit(terms, parse_payload(payload), key)

    job = asyncio.run(submit_now())
    out.print(str(job))
    if watch:
        _watch(str(job))


def submit_many(
    task: str,
    file: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    results_directory: str,
    *,
    options: _Options = _USUAL,
    key: str | None = None,
) -> None:
    """Submit a job for each line of a file and print their ids, in that order.

    Example: `prefecture submit-many find-primes payloads.jsonl numbers --key sweep-7`

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    file
        A file with a payload as JSON on each line; - is standard input.
    results_directory
        The name under which results are published, each job's in a folder of its own.
    key
        Your own name for these requests: the same call again submits only missing jobs.
    """
    terms = options.terms(task, results_directory)
    payloads = [parse_payload(line, f"line {number}: ") for number, line in _lines(file)]
    own_key = key or str(uuid4())

    async def submit_now() -> list[UUID]:
        async with open_jobs(say_aside) as jobs:
            return await jobs.submit_many(terms, payloads, own_key)

    try:
        jobs = asyncio.run(submit_now())
    except KeyboardInterrupt:
        err.print(
            f"some jobs may be submitted: the same command with --key {shlex.quote(own_key)} "
            "submits the rest, none of them twice",
            soft_wrap=True,
        )
        sys.exit(_INTERRUPTED)
    for job in jobs:
        out.print(str(job))


def watch(job: JobId, *, json: AsJson = False) -> None:
    """Follow a job to its end: exit code 0 if it completes, 1 if it fails, 2 if it is cancelled.

    Ctrl-C stops watching; the job goes on.

    Example: `prefecture watch 019ad2c4`

    Parameters
    ----------
    json
        A line of JSON for each change.
    """
    _watch(job, json=json)


def logs(job: JobId, *, follow: Flag = False, json: AsJson = False) -> None:
    """Print the log of a job, in all of its attempts.

    Example: `prefecture logs 019ad2c4 --follow`

    Parameters
    ----------
    follow
        Continue until the job has ended.
    json
        A line of JSON for each line of the log, times in UTC.
    """
    asyncio.run(_print_logs(job, follow=follow, as_json=json))


async def _print_logs(job: str, *, follow: bool, as_json: bool) -> None:
    async with (
        open_jobs() as jobs,
        aclosing(jobs.logs(await jobs.resolve(job), follow=follow)) as lines,
    ):
        async for line in lines:
            if as_json:
                say_json(line.as_json())
                continue
            level = logging.getLevelName(line.level)
            attempt = f"attempt {line.attempt} " if line.attempt > 1 else ""
            say(f"{line.at.astimezone():%H:%M:%S} {level:<7} {attempt}{line.message}")


def results(job: JobId, *, to: Path | None = None, json: AsJson = False) -> None:
    """List the files of a job's result, or copy them, after checking every file.

    For results in S3, the list has a link to each file, valid for an hour: anyone with the link can
    read the file. Through a gateway, there are no links, and only copies are checked.

    Example: `prefecture results 019ad2c4 --to holiday-photos`

    Parameters
    ----------
    to
        A new folder to copy the files to.
    json
        As JSON: their location and the manifest.
    """

    async def show() -> None:
        async with open_jobs() as jobs:
            result = await jobs.result(job)
            is_checked = await result.check() if to is None else True
            if to is not None:
                await result.copy(to)
        links = list(result.links) if to is None else []
        if json:
            manifest = result.manifest.model_dump(mode="json")
            place = str(to or result.location)
            say_json({"location": place, "manifest": manifest, "links": links})
            return
        note = "all checked" if is_checked else "not checked"
        out.print(tables.results_table(to or result.location, result.manifest, note))
        for link in links:
            out.print(link, soft_wrap=True, markup=False, highlight=False)

    asyncio.run(show())


def _watch(job: str, *, json: bool = False) -> None:
    async def watch_now() -> int:
        async with open_jobs() as jobs:
            return await watch_to_end(jobs, await jobs.resolve(job), out, as_json=json)

    try:
        sys.exit(asyncio.run(watch_now()))
    except KeyboardInterrupt:
        err.print(f"job {job} goes on: `prefecture watch {job}` follows it again", soft_wrap=True)
        sys.exit(_INTERRUPTED)


def _lines(file: Path) -> list[tuple[int, str]]:
    """The non-empty lines of a file, with their numbers. Raises InvalidPayload if it has none."""
    try:
        text = sys.stdin.read() if file == Path("-") else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPayload(f"{file} cannot be read: {error}") from error
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        named = "standard input" if file == Path("-") else str(file)
        raise InvalidPayload(f"{named} holds no payload: write one as JSON on each line")
    return lines
