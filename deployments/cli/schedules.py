"""Commands for schedules of jobs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from cyclopts import App, Parameter
from prefect.client.orchestration import PrefectClient

from deployments.cli.output.console import AsJson, Flag, out, say, say_json
from deployments.cli.output.views import schedules_table
from deployments.connection import connect
from deployments.jobs import schedules
from deployments.jobs.request import Terms, parse_payload
from tasks.contracts import Queue

schedule = App(name="schedule")
_T = TypeVar("_T")
_Name = Annotated[str, Parameter(help="The schedule's name.")]


@schedule.default
def create(
    task: str,
    payload: str,
    results_directory: str,
    *,
    cron: str,
    timezone: str = "UTC",
    queue: str = Queue.NORMAL,
    name: str | None = None,
) -> None:
    """Submit a job at each time of a cron line, and print the schedule's name.

    `prefecture schedule list`, `pause`, `resume` and `delete` manage existing schedules.

    Example: `prefecture schedule find-primes '{"upper_bound": 1000}' nightly --cron '30 2 * * *'`

    Parameters
    ----------
    task
        A compute task, e.g. compress-images.
    payload
        The task's parameters as JSON.
    results_directory
        The name under which results are published, each job's in a folder of its own.
    cron
        Minute, hour, day of the month, month and day of the week.
    timezone
        The time zone of the cron line, e.g. Europe/Berlin.
    queue
        high, normal or low.
    name
        The schedule's name. Default: the task's name and six random characters.
    """
    terms = Terms(task, results_directory, queue)
    work = parse_payload(payload)
    say(_run(lambda client: schedules.create_schedule(client, terms, work, cron, timezone, name)))


@schedule.command(name="list")
def list_all(*, json: AsJson = False) -> None:
    """List the schedules of jobs, with the time of the next job.

    Example: `prefecture schedule list`

    Parameters
    ----------
    json
        As JSON: times in UTC.
    """
    found = _run(schedules.list_schedules)
    if json:
        say_json([each.as_json() for each in found])
    elif found:
        out.print(schedules_table(found))
    else:
        say("there is no schedule: `prefecture schedule TASK PAYLOAD DIRECTORY --cron …` makes one")


@schedule.command
def pause(name: _Name) -> None:
    """Pause a schedule: it submits no jobs. Jobs that wait or run are not affected.

    Example: `prefecture schedule pause nightly-primes`
    """
    _set(name, active=False)


@schedule.command
def resume(name: _Name) -> None:
    """Resume a paused schedule. Jobs that were due during the pause are not submitted.

    Example: `prefecture schedule resume nightly-primes`
    """
    _set(name, active=True)


@schedule.command
def delete(name: _Name, *, yes: Annotated[Flag, Parameter(name=["--yes", "-y"])] = False) -> None:
    """Delete a schedule. The results of its jobs stay.

    Waiting jobs of any schedule for the same task and queue would be deleted with it: where there
    are any, the schedule is only paused, unless you add --yes.

    Example: `prefecture schedule delete nightly-primes`

    Parameters
    ----------
    yes
        Also delete the waiting scheduled jobs.
    """
    _run(lambda client: schedules.delete_schedule(client, name, force=yes))
    say(f"schedule {name} is deleted")


def _set(name: str, *, active: bool) -> None:
    _run(lambda client: schedules.set_active(client, name, active=active))
    say(f"schedule {name} is {'active' if active else 'paused'}")


def _run(action: Callable[[PrefectClient], Awaitable[_T]]) -> _T:
    async def run() -> _T:
        async with connect() as client:
            return await action(client)

    return asyncio.run(run())
