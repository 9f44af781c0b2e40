"""Queries of the run history since a given time, for `prefecture stats` and the report."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from sqlalchemy import Connection, Select, func, select
from sqlmodel import col

from tasks.history import aggregate
from tasks.history.outcomes import Row
from tasks.history.periods import frame
from tasks.history.schema import (
    ALL,
    EVER,
    Attempt,
    AttemptsPerTask,
    Backlog,
    Job,
    Throughput,
    columns,
)

_TOP = 10
_BY_HOUR = timedelta(days=62)  # over longer spans days are precise enough, and fewer
_JOB = ("job", "task", "name", "queue", "outcome", "submitted", "attempts", "starts", "ran")
_LEFT_OUT = ("start", "waited_spread", "ran_spread")


@dataclass(frozen=True)
class Query:
    """The part of the history to read."""

    since: datetime
    task: str | None = None
    queue: str | None = None

    @property
    def begin(self) -> datetime:
        """The hour or day in which the answer begins."""
        at = self.since.replace(minute=0, second=0, microsecond=0)
        return at if self.period == "hour" else at.replace(hour=0)

    @property
    def period(self) -> str:
        """The period of the rows that are read: hour, or day for long spans."""
        return "hour" if datetime.now(UTC) - self.since <= _BY_HOUR else "day"


@dataclass(frozen=True)
class Answer:
    """The result of a query. Columns are those of the tables."""

    begin: datetime
    asked: datetime
    periods: pl.DataFrame
    """Throughput by hour or by day."""
    throughput: list[Row]
    """Throughput of the whole time, a row for each task and queue."""
    attempts_per_task: list[Row]
    of_all_tasks: pl.DataFrame
    """Attempts per task for ALL tasks together, by hour or by day."""
    published_ever: int
    """Bytes published since the history began."""
    backlog: list[Row]
    """The newest backlog, a row for each queue."""
    slowest: list[Row]
    """The ten jobs with the longest run time, all attempts together."""
    most_requeued: list[Row]
    """The ten jobs with the most attempts."""


def ask(connection: Connection, query: Query) -> Answer:
    """Run a query."""
    parts = _parts(connection, query)
    return Answer(
        begin=query.begin,
        asked=datetime.now(UTC),
        periods=parts,
        throughput=summed(parts),
        attempts_per_task=_per_task(connection, query),
        of_all_tasks=_of_all_tasks(connection, query),
        published_ever=_published(connection),
        backlog=_backlog(connection, query),
        slowest=_jobs(connection, query, "ran", 0),
        most_requeued=_jobs(connection, query, "attempts", 1),
    )


def known_tasks(connection: Connection) -> list[str]:
    """Return the names of all tasks in the history."""
    made = columns(Throughput)
    return sorted(connection.execute(select(made.c.task).distinct()).scalars())


def by_minute(connection: Connection, query: Query) -> pl.DataFrame:
    """Return the throughput by minute, for a history of few hours."""
    return _parts(connection, query, "minute")


def summed(parts: pl.DataFrame, by: tuple[str, ...] = ("task", "queue")) -> list[Row]:
    """Add up periods, for each task and queue, or for one of the two."""
    other = [name for name in ("task", "queue") if name not in by]
    parts = parts.with_columns(pl.lit("").alias(name) for name in other)
    rows = aggregate.merge(parts, EVER).drop(*_LEFT_OUT, *other).sort(*by)
    return list(rows.iter_rows(named=True))


def read_attempts(connection: Connection, query: Query) -> pl.DataFrame:
    """Return the start and the end (null while open) of every attempt that ran since then."""
    which = (col(Attempt.ended) >= query.begin) | col(Attempt.ended).is_(None)
    wanted = select(columns(Attempt).c.started, columns(Attempt).c.ended)
    rows = connection.execute(wanted.where(which, col(Attempt.started).is_not(None)))
    time = pl.Datetime("us")
    return frame(list(rows), pl.Schema({"started": time, "ended": time}))


def _parts(connection: Connection, query: Query, period: str | None = None) -> pl.DataFrame:
    made = columns(Throughput)
    wanted: Select[Any] = select(*(made.c[name] for name in aggregate.PARTS)).where(
        made.c.period == (period or query.period), made.c.start >= query.begin
    )
    for name in ("task", "queue"):
        if value := getattr(query, name):
            wanted = wanted.where(made.c[name] == value)
    return frame(list(connection.execute(wanted)), aggregate.PARTS)


def _per_task(connection: Connection, query: Query) -> list[Row]:
    made = columns(AttemptsPerTask)
    counts = [made.c[name] for name in ("jobs", "attempts", "starts")]
    wanted = (
        select(made.c.task, *(func.sum(count).label(count.name) for count in counts))
        .where(made.c.period == query.period, made.c.start >= query.begin)
        .group_by(made.c.task)
        .order_by(made.c.task)
    )
    if query.task:
        wanted = wanted.where(made.c.task == query.task)
    rows = [dict(row) for row in connection.execute(wanted).mappings()]
    # Some databases return sums as decimals.
    rows = [{k: v if k == "task" else int(v) for k, v in row.items()} for row in rows]
    return [row | {"average_starts": row["starts"] / row["jobs"]} for row in rows]


def _of_all_tasks(connection: Connection, query: Query) -> pl.DataFrame:
    made = columns(AttemptsPerTask)
    wanted: Select[Any] = select(*(made.c[name] for name in aggregate.PER_TASK)).where(
        made.c.period == query.period, made.c.start >= query.begin, made.c.task == ALL
    )
    return frame(list(connection.execute(wanted)), aggregate.PER_TASK)


def _published(connection: Connection) -> int:
    made = columns(Throughput)
    wanted = select(func.sum(made.c.published_bytes)).where(made.c.period == "month")
    return int(connection.execute(wanted).scalar() or 0)


def _backlog(connection: Connection, query: Query) -> list[Row]:
    made = columns(Backlog)
    newest = select(func.max(made.c.taken)).scalar_subquery()
    wanted = made.select().where(made.c.taken == newest)
    if query.queue:
        wanted = wanted.where(made.c.queue == query.queue)
    order = {"high": 0, "normal": 1, "low": 2}
    rows = [dict(row) for row in connection.execute(wanted).mappings()]
    return sorted(rows, key=lambda row: order.get(row["queue"], 3))


def _jobs(connection: Connection, query: Query, by: str, over: float) -> list[Row]:
    made = columns(Job)
    wanted = (
        select(*(made.c[name] for name in _JOB))
        .where(made.c.submitted >= query.begin, made.c[by] > over)
        .order_by(made.c[by].desc(), made.c.job)
        .limit(_TOP)
    )
    for name in ("task", "queue"):
        if value := getattr(query, name):
            wanted = wanted.where(made.c[name] == value)
    rows: list[Any] = [dict(row) for row in connection.execute(wanted).mappings()]
    return rows
