"""Commands for schedules of jobs."""

import asyncio
from typing import Annotated

from cyclopts import App, Parameter

from deployments.cli.output.console import AsJson, Flag, out, say, say_aside, say_json
from deployments.cli.output.views import schedules_table
from deployments.cli.where import needed_span
from deployments.client.schedules import open_schedules
from deployments.jobs.records import printable
from deployments.jobs.request import Terms, parse_payload

schedule = App(name="schedule")
_Name = Annotated[str, Parameter(help="The schedule's name.")]


@schedule.command
def add(
    task: str,
    payload: str,
    results_directory: str,
    *,
    cron: str,
    timezone: str = "UTC",
    queue: str | None = None,
    name: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(negative="", show_default=False)] = (),
    max_duration: int | None = None,
    memory: str | None = None,
    expires: str | None = None,
) -> None:
    """Submit a job at each time of a cron line, and print the schedule's name.

    `prefecture schedule list`, `pause`, `resume` and `remove` manage existing schedules.

    Example: `prefecture schedule add find-primes '{"upper_bound": 1000}' primes --cron '0 2 * * *'`

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
        high, normal or low. Default: normal.
    name
        The schedule's name. Default: the task's name and six random characters.
    tag
        A tag of each job, through a gateway; may be repeated.
    max_duration
        Seconds one attempt may run, through a gateway.
    memory
        Memory of a job's container, through a gateway: a number and k, m or g.
    expires
        When each result may be removed, through a gateway: 90m, 24h, 7d or 4w after its end.
    """
    lasts = None if expires is None else needed_span(expires, "--expires")
    kept = None if lasts is None else int(lasts.total_seconds())
    terms = Terms(task, results_directory, queue, tag, max_duration, memory, expires=kept)
    work = parse_payload(payload)

    async def add_now() -> str:
        async with open_schedules(say_aside) as schedules:
            return await schedules.add(terms, work, cron, timezone, name)

    say(asyncio.run(add_now()))


@schedule.default
@schedule.command(name="list")
def list_all(*, json: AsJson = False) -> None:
    """List the schedules of jobs, with the time of the next job and the last error of each.

    `prefecture schedule add`, `pause`, `resume` and `remove` change them.

    Example: `prefecture schedule list`

    Parameters
    ----------
    json
        As JSON: times in UTC.
    """

    async def show() -> None:
        async with open_schedules() as schedules:
            found = await schedules.list()
        if json:
            say_json([each.as_json() for each in found])
        elif found:
            out.print(schedules_table(found))
            for each in found:
                if each.error:
                    say(f"{each.name}: {printable(each.error)}")
        else:
            say("there is no schedule: `prefecture schedule add` makes one")

    asyncio.run(show())


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
def remove(name: _Name, *, yes: Annotated[Flag, Parameter(name=["--yes", "-y"])] = False) -> None:
    """Remove a schedule. The results of its jobs stay.

    Through a gateway its jobs stay, too. On Prefect's server, waiting jobs of any schedule for the
    same task and queue would be deleted with it: where there are any, the schedule is only paused,
    unless you add --yes.

    Example: `prefecture schedule remove nightly-primes`

    Parameters
    ----------
    yes
        Also delete the waiting scheduled jobs.
    """

    async def remove_now() -> None:
        async with open_schedules() as schedules:
            await schedules.remove(name, force=yes)

    asyncio.run(remove_now())
    say(f"schedule {name} is removed")


def _set(name: str, *, active: bool) -> None:
    async def set_now() -> None:
        async with open_schedules() as schedules:
            await schedules.set_active(name, active=active)

    asyncio.run(set_now())
    say(f"schedule {name} is {'active' if active else 'paused'}")
