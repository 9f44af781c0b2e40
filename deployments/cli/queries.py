"""Commands that list tasks and jobs, and explain a job's state."""

import asyncio

from deployments.cli.output.console import AsJson, JobId, err, out, say, say_json
from deployments.cli.output.views import explanation, how_many, jobs_table, task_page, tasks_table
from deployments.cli.where import EVERY_JOB, Where
from deployments.client.opening import open_jobs
from deployments.jobs.records import ComputeTask, Explanation, Listing
from tasks.errors import InvalidPayload


def tasks(task: str | None = None, *, json: AsJson = False) -> None:
    """List the compute tasks, or show one: its payload's fields, and a working example.

    Example: `prefecture tasks compress-images`

    Parameters
    ----------
    task
        A compute task to show.
    json
        As JSON, with the payload's schema.
    """

    async def read() -> list[ComputeTask]:
        async with open_jobs() as jobs:
            return await jobs.tasks(task)

    found = asyncio.run(read())
    if json:
        shown = [each.as_json() for each in found]
        say_json(shown if task is None else shown[0])
    elif task is not None:
        for part in task_page(found[0]):
            out.print(part, soft_wrap=isinstance(part, str))
    elif found:
        out.print(tasks_table(found))
        say("`prefecture tasks TASK` shows a task's payload and an example")
    else:
        say("there is no compute task on the server: `prefecture apply` puts them there")


def jobs(*, where: Where = EVERY_JOB, limit: int = 20, json: AsJson = False) -> None:
    """List jobs, the newest first.

    Each job is listed once, with its latest attempt, whose number follows the state from the second
    attempt on. Times are ages and durations. Jobs that are scheduled for later are listed with
    --state scheduled. The server cannot filter by results directory: add --since where there are
    many thousands of jobs.

    Example: `prefecture jobs --state failed --since 24h`

    Parameters
    ----------
    limit
        The maximum number of jobs; 0: all.
    json
        As JSON: full ids, times in UTC, durations in seconds.
    """
    if limit < 0:
        raise InvalidPayload(f"--limit {limit}: use 0 or more")
    selection = where.selection()

    async def read() -> Listing:
        async with open_jobs() as jobs:
            return await jobs.list(selection, limit or None)

    found = asyncio.run(read())
    cut = how_many(len(found.jobs), found.total) if not found.is_all else ""
    if json:
        say_json([job.as_json() for job in found.jobs])
        if cut:
            err.print(cut, soft_wrap=True)
        return
    if not found.jobs:
        say("there are no jobs" if selection.is_everything else "no job matches")
        return
    out.print(jobs_table(found.jobs, out.width))
    if cut:
        say(cut)


def explain(job: JobId, *, json: AsJson = False) -> None:
    """Explain why a job waits, its place in the queue, and when it is likely to start or to end.

    The estimate is shown with its basis; it does not include jobs that are submitted to a more
    urgent queue later.

    Example: `prefecture explain 019ad2c4`

    Parameters
    ----------
    json
        As JSON: durations in seconds.
    """

    async def read() -> Explanation:
        async with open_jobs() as jobs:
            return await jobs.explain(await jobs.resolve(job))

    found = asyncio.run(read())
    if json:
        say_json(found.as_json())
        return
    for line in explanation(found):
        say(line)
