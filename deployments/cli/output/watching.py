"""The output of `prefecture watch`: a bar on a terminal, a line for each change in a pipe."""

from contextlib import aclosing
from dataclasses import asdict
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from deployments.cli.output.console import say_json
from deployments.client.interface import Jobs
from deployments.jobs.records import Progress
from tasks.errors import PrefectureError

_EXIT_CODES = {"completed": 0, "failed": 1, "cancelled": 2}


async def watch_to_end(jobs: Jobs, job: UUID, out: Console, *, as_json: bool = False) -> int:
    """Show the progress of a job until it has ended, then its result's location, or the reason.

    Returns the exit code: 0 if it completed, 1 if it failed, 2 if it was cancelled. With `as_json`,
    prints a line of JSON for each change.
    """
    if as_json:
        return await _watch_as_json(jobs, job)
    columns = (
        TextColumn("{task.description}", markup=False),  # names of files may hold brackets
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    shown, last = "", None
    with Bars(*columns, console=out, transient=True, disable=not out.is_terminal) as bars:
        bar = bars.add_task("", total=1.0)
        async with aclosing(jobs.follow(job)) as looks:
            async for last in looks:
                description = describe(last)
                bars.update(bar, completed=last.fraction, description=description)
                line = f"{description} {last.fraction:.0%}" if last.fraction else description
                if last.outcome is None and line != shown and not out.is_terminal:
                    out.print(line, soft_wrap=True)
                    shown = line
    assert last is not None and last.outcome is not None
    out.print(await last_line(jobs, last), soft_wrap=True)
    return _EXIT_CODES[last.outcome]


async def _watch_as_json(jobs: Jobs, job: UUID) -> int:
    last: Progress | None = None
    async with aclosing(jobs.follow(job)) as looks:
        async for progress in looks:
            if progress != last:
                say_json(asdict(progress) | {"job": str(progress.job)})
            last = progress
    assert last is not None and last.outcome is not None
    return _EXIT_CODES[last.outcome]


def describe(progress: Progress) -> str:
    """The state of a job in a few words."""
    attempt = f", attempt {progress.attempt}" if progress.attempt > 1 else ""
    if progress.ahead is not None:
        place = "next" if progress.ahead == 0 else f"{progress.ahead} before it"
        return f"waiting{attempt}, {place}"
    if progress.state == "Crashed":
        return f"crashed{attempt}, is run again"
    text = f": {progress.text}" if progress.text else ""
    return f"{progress.state.lower()}{attempt}{text}"


async def last_line(jobs: Jobs, last: Progress) -> str:
    """The location of an ended job's result, or the reason why there is none."""
    attempts = f" at attempt {last.attempt}" if last.attempt > 1 else ""
    if last.outcome != "completed":
        return f"job {last.job} {last.state}{attempts}: {last.text}"
    return f"job {last.job} Completed{attempts}: {await _location(jobs, last.job)}"


async def _location(jobs: Jobs, job: UUID) -> str:
    try:
        return (await jobs.result(str(job))).location
    except PrefectureError:
        # The results root of this host is a different one, or the server does not answer just now.
        return f"`prefecture results {job}` where the results root is"
