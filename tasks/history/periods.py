"""Counts periods anew, from the attempts in the database."""

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
    """Count these minutes anew, with their hours and all longer periods that contain them.

    Hours before the horizon are left unchanged: their attempts are no longer complete.
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
    _put(connection, AttemptsPerTask, "hour", hours, aggregate.count_per_task(attempts))
    for period, shorter in _LONGER:
        starts = _starts(hours, period)
        spans = _spans(starts, period)
        parts = _read(connection, Throughput, aggregate.PARTS, shorter, spans)
        _put(connection, Throughput, period, starts, aggregate.merge(parts, period))
        counts = _read(connection, AttemptsPerTask, aggregate.PER_TASK, shorter, spans)
        merged = aggregate.merge_per_task(counts, period)
        _put(connection, AttemptsPerTask, period, starts, merged)
    months = _read(connection, AttemptsPerTask, aggregate.PER_TASK, "month", None)
    ever = {datetime.fromtimestamp(0, UTC)}
    _put(connection, AttemptsPerTask, EVER, ever, aggregate.merge_per_task(months, EVER))


def _attempts(connection: Connection, hours: set[datetime]) -> pl.DataFrame:
    """Read every attempt that was submitted, started or ended in these hours."""
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
    """Join consecutive hours to ranges."""
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
    """Return the start and the end of each period."""
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
    """Read the rows of shorter periods in these spans; all rows where `spans` is None."""
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
    """Replace all rows of these periods."""
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
    """Convert rows of the database to a frame, with times without a zone."""
    plain = [
        tuple(v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in row) for row in rows
    ]
    return pl.DataFrame(plain, schema=schema, orient="row")


def _naive(times: Iterable[datetime]) -> list[datetime]:
    return [at.replace(tzinfo=None) for at in times]
