"""Tables and texts of jobs, tasks and schedules, for terminals of 80 columns and more."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from deployments.jobs.queries.estimate import in_words
from deployments.jobs.queries.prefixes import short_ids
from deployments.jobs.records import ENDED, ComputeTask, Explanation, JobRecord, JobState, printable
from deployments.tables import plain_table

if TYPE_CHECKING:  # they import what most commands do not need
    from deployments.client.schedules import ListedSchedule
    from deployments.gateway.users.tokens import Token

_ROOM_FOR_REASONS = 110  # columns from which on a table of jobs has their tags and reasons


def jobs_table(jobs: Sequence[JobRecord], width: int) -> Table:
    """A table of jobs; `width`, in characters, decides which columns it has."""
    wide = width >= _ROOM_FOR_REASONS
    now = datetime.now(UTC)
    short = short_ids(job.job for job in jobs)
    columns = ["job", "task", "directory", *(["queue"] if wide else []), "state", ">age", ">ran"]
    table = plain_table("", *columns, *(["tags", "reason"] if wide else []))
    table.title, table.expand = None, wide
    for column in table.columns:
        column.no_wrap = column.header != "directory"
        if column.header in ("tags", "reason"):
            column.ratio, column.overflow = 1 if column.header == "tags" else 3, "ellipsis"
    for job in jobs:
        state = job.state + (f" ({job.attempt})" if job.attempt > 1 else "")
        row = [short[job.job], job.task, printable(job.results_directory)]
        row += [*([job.queue] if wide else []), state]
        row += [_age(job, now), in_words(job.ran) if job.started else ""]
        if wide:
            row += [printable(", ".join(job.tags)), printable(job.reason)]
        table.add_row(*row)
    return table


def tasks_table(tasks: Iterable[ComputeTask]) -> Table:
    """A table of compute tasks."""
    table = plain_table("", "task", "queues", "what it does")
    table.title = None
    table.columns[0].no_wrap = True
    for task in tasks:
        table.add_row(task.name, " ".join(task.queues), printable(task.description))
    return table


def how_many(shown: int, total: int | None) -> str:
    """The line under a list that is cut: how many jobs there are, and how to list all."""
    some = f"{shown:,} of {total:,} jobs" if total is not None else f"the {shown:,} newest of more"
    return f"{some}: --limit 0 lists all"


def task_page(task: ComputeTask) -> Iterable[Table | str]:
    """The description of a compute task, its payload's fields, and an example."""
    yield f"{task.name}: {printable(task.description)}"
    yield f"queues: {', '.join(task.queues)}\n"
    table = plain_table("Payload", "field", "value", "meaning")
    table.columns[0].no_wrap = True
    for field in task.fields:
        value = field.type + (f"; {field.default} if left out" if field.default else "")
        name = Text(field.name, style="bold" if field.required else "")
        table.add_row(name + (" *" if field.required else ""), value, printable(field.description))
    table.caption = "* must be given" if any(field.required for field in task.fields) else None
    table.caption_justify = "left"
    yield table
    needs = f" ({task.example_needs})" if task.example_needs else ""
    yield f"Example{needs}:\n"
    yield f"  {task.command}"


def explanation(found: Explanation) -> Iterable[str]:
    """The lines of `prefecture explain`."""
    job, now = found.job, datetime.now(UTC)
    attempt = f", attempt {job.attempt}" if job.attempt > 1 else ""
    directory = printable(job.results_directory)
    yield f"job {job.job}: {job.task}, queue {job.queue}, directory {directory}"
    since = f" {_since(job, now)}" if _since(job, now) else ""
    yield f"{job.state}{since}{attempt}"
    for reason in found.reasons:
        yield f"  {printable(reason)}"
    if found.before is not None:
        place = "next" if not found.before else f"number {found.before + 1:,} of the waiting jobs"
        yield f"place     {place}"
    if found.fraction:
        yield f"progress  {found.fraction:.0%}"
    if found.estimate is not None:
        estimate = found.estimate
        at = datetime.fromtimestamp(now.timestamp() + estimate.seconds).astimezone()
        yield (
            f"estimate  {estimate.event} in about {in_words(estimate.seconds)}, at {at:%H:%M:%S} "
            f"({estimate.basis})"
        )
    elif job.state in (JobState.WAITING, JobState.RUNNING):
        yield "estimate  none: no job of its task has completed here lately, or none can start now"
    if job.state in ENDED:
        seen = "results" if job.state is JobState.COMPLETED else "logs"
        yield f"  see `prefecture {seen} {job.job}`"


def schedules_table(schedules: "Iterable[ListedSchedule]") -> Table:
    """A table of schedules, with the due times of their next jobs."""
    columns = ("name", "task", "queue", "directory", "cron", "state", "next")
    table = plain_table("", *columns)
    table.title = None
    for each in schedules:
        due = each.next[0].astimezone().strftime("%Y-%m-%d %H:%M %Z") if each.next else ""
        cron = each.cron if each.timezone == "UTC" else f"{each.cron} {each.timezone}"
        state = "active" if each.active else "paused"
        table.add_row(
            *(each.name, each.task, each.queue, printable(each.results_directory), cron),
            *(state, due),
        )
    return table


def tokens_table(tokens: "Iterable[Token]") -> Table:
    """A table of the gateway's tokens."""
    table = plain_table("", "id", "user", "scopes", "secrets", "created", "expires")
    table.title = None
    for each in tokens:
        until = f"{each.expires.astimezone():%Y-%m-%d %H:%M %Z}" if each.expires else "never"
        table.add_row(
            *(each.id, each.user, " ".join(each.scopes), " ".join(each.secrets)),
            f"{each.created.astimezone():%Y-%m-%d %H:%M %Z}",
            f"{until}, it is over" if each.is_expired else until,
        )
    return table


def _age(job: JobRecord, now: datetime) -> str:
    if job.due is None:
        return ""
    age = (now - job.due).total_seconds()
    return in_words(age) if age >= 0 else f"in {in_words(-age)}"


def _since(job: JobRecord, now: datetime) -> str:
    match job.state:
        case JobState.WAITING:
            return f"for {in_words(job.waited)}"
        case JobState.SCHEDULED if job.due is not None:
            return f"for {job.due.astimezone():%Y-%m-%d %H:%M:%S %Z}, {_age(job, now)}"
        case JobState.RUNNING:
            return f"for {in_words(job.ran)}, after {in_words(job.waited)} of waiting"
        case state if state in ENDED and job.ended is not None:
            after = f", after {in_words(job.ran)}" if job.started is not None else ""
            return f"at {job.ended.astimezone():%Y-%m-%d %H:%M:%S %Z}{after}"
        case _:
            return ""
