"""Counting the touched periods anew, from what the database holds."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from sqlalchemy import Connection, delete, or_, select
from sqlmodel import col

from tasks.history import aggregate
from tasks.history.schema import EVER, Attempt, AttemptsPerTask, Throughput, columns

_HOUR = timedelta(hours=1)
_LONGER = (("day", "hour"), ("week", "day"), ("month", "day"))
_NEXT = {"day": "1d", "week": "1w", "month": "1mo"}
_MANY = 400  # values in one query, and ranges


def recount(connection: Connection, minutes: set[datetime], horizon: datetime) -> None:
    """Count the minutes anew, their hours, and every longer period they are in.

    Those that began before the horizon are left alone, as not all their attempts are kept.
    """
    hours = {at.replace(minute=0) for at in minutes}
    hours = {hour for hour in hours if hour >= horizon}
    if not hours:
        return
    attempts = _attempts(connection, hours)
    wanted = {"minute": {at for at in minutes if at.replace(minute=0) in hours}, "hour": hours}
    counted = aggregate.count_attempts(attempts)
    for period, starts in wanted.items():
        _put(connection, Throughput, period, starts, counted[period])
    _put(connection, AttemptsPerTask, "hour", hours, aggregate.count_takes(attempts))
    for period, shorter in _LONGER:
        starts = _starts(hours, period)
        spans = _spans(starts, period)
        parts = _read(connection, Throughput, aggregate.PARTS, shorter, spans)
        _put(connection, Throughput, period, starts, aggregate.merge(parts, period))
        takes = _read(connection, AttemptsPerTask, aggregate.TAKES, shorter, spans)
        _put(connection, AttemptsPerTask, period, starts, aggregate.merge_takes(takes, period))
    months = _read(connection, AttemptsPerTask, aggregate.TAKES, "month", None)
    ever = {datetime.fromtimestamp(0, UTC)}
    _put(connection, AttemptsPerTask, EVER, ever, aggregate.merge_takes(months, EVER))


def _attempts(connection: Connection, hours: set[datetime]) -> pl.DataFrame:
    """Every attempt that anything happened to in these hours."""
    table = columns(Attempt)
    wanted = select(table.c.flow_run, *(table.c[name] for name in aggregate.ATTEMPTS))
    times = (Attempt.submitted, Attempt.started, Attempt.ended)
    found: dict[str, Any] = {}
    for begin, end in _ranges(hours):
        inside = [(col(time) >= begin) & (col(time) < end) for time in times]
        rows = connection.execute(wanted.where(or_(*inside)))
        found |= {row[0]: row[1:] for row in rows}
    return frame(list(found.values()), aggregate.ATTEMPTS)


def _ranges(hours: set[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """The hours, those that follow each other as one."""
    begin = end = None
    for hour in sorted(hours):
        if begin is None or end is None or hour != end:
            if begin is not None and end is not None:
                yield begin, end
            begin = hour
        end = hour + _HOUR
    if begin is not None and end is not None:
        yield begin, end


def _starts(hours: Iterable[datetime], period: str) -> set[datetime]:
    hourly = pl.DataFrame({"start": _naive(hours)}, schema={"start": pl.Datetime("us")})
    starts = hourly.select(aggregate.start_of(pl.col("start"), period).unique())
    return {start.replace(tzinfo=UTC) for (start,) in starts.iter_rows()}


def _spans(starts: set[datetime], period: str) -> list[tuple[datetime, datetime]]:
    """When each of these periods begins and ends."""
    begins = pl.DataFrame({"start": _naive(starts)}, schema={"start": pl.Datetime("us")})
    ends = begins.with_columns(end=pl.col("start").dt.offset_by(_NEXT[period]))
    return [
        (a.replace(tzinfo=UTC), b.replace(tzinfo=UTC)) for a, b in ends.sort("start").iter_rows()
    ]


def _read(
    connection: Connection,
    table: type[Throughput] | type[AttemptsPerTask],
    schema: pl.Schema,
    period: str,
    spans: list[tuple[datetime, datetime]] | None,
) -> pl.DataFrame:
    """The rows of shorter periods that lie in these spans; all, where none are given."""
    wanted = select(*(columns(table).c[name] for name in schema))
    of_period = wanted.where(col(table.period) == period)
    rows: list[Any] = []
    if spans is None:
        rows += connection.execute(of_period)
    for begin, end in spans or ():
        inside = (col(table.start) >= begin) & (col(table.start) < end)
        rows += connection.execute(of_period.where(inside))
    return frame(rows, schema)


def _put(
    connection: Connection,
    table: type[Throughput] | type[AttemptsPerTask],
    period: str,
    starts: set[datetime],
    rows: pl.DataFrame,
) -> None:
    """Put rows in the place of all that these periods have."""
    ordered = sorted(starts)
    for at in range(0, len(ordered), _MANY):
        which = (col(table.period) == period) & col(table.start).in_(ordered[at : at + _MANY])
        connection.execute(delete(table).where(which))
    wanted = rows.filter(pl.col("start").is_in(_naive(starts)))
    made = [
        row | {"period": period, "start": row["start"].replace(tzinfo=UTC)}
        for row in wanted.iter_rows(named=True)
    ]
    if made:
        connection.execute(columns(table).insert(), made)


def frame(rows: list[Any], schema: pl.Schema) -> pl.DataFrame:
    """Rows of the database as a frame, their times without a zone."""
    plain = [
        tuple(v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in row) for row in rows
    ]
    return pl.DataFrame(plain, schema=schema, orient="row")


def _naive(times: Iterable[datetime]) -> list[datetime]:
    return [at.replace(tzinfo=None) for at in times]
