"""Writing into the history: attempts, their jobs, and the periods that they touch, all at once.

One call is one transaction, with the watermark in it: what is killed midway has done nothing, and
what is put again changes nothing. Windows are counted anew from the attempts of their hour, never
added to; those from before the horizon, whose attempts are gone, stay as they are.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, update
from sqlmodel import col, select

from tasks.history.outcomes import Row, settle
from tasks.history.periods import recount
from tasks.history.schema import Attempt, Backlog, Job, Watermark, columns

HORIZON = "horizon"
"""The watermark before which attempts are no longer kept."""

_MANY = 500  # values in one query
_PROGRESS = ("SCHEDULED", "PAUSED", "PENDING", "RUNNING", "CANCELLING")
_NO_HISTORY = ("checked", "job_attempts", "job_starts")  # of ours, not of the run's


def put(connection: Connection, rows: Sequence[Row], marks: Mapping[str, datetime]) -> int:
    """Write attempts as they were read, and how far the reading has come. Returns how many are new.

    Of two reader of one attempt the later counts, whichever is put first.
    """
    before = _by_id(connection, {row["flow_run"] for row in rows})
    newest: dict[str, Row] = {}
    for row in rows:
        known = newest.get(row["flow_run"], before.get(row["flow_run"]))
        if known is None or _is_newer(row, known):
            newest[row["flow_run"]] = row | {"job_attempts": None, "job_starts": None}
    fresh = {id: row for id, row in newest.items() if _differs(row, before.get(id))}
    if fresh:
        known = [before[id] for id in fresh.keys() & before.keys()]
        others = _settle(connection, fresh, known)
        _replace(connection, Attempt, "flow_run", fresh | others)
        moments = _moments([*fresh.values(), *known, *others.values()])
        recount(connection, moments, watermark(connection, HORIZON))
    for name, at in marks.items():
        keep_watermark(connection, name, at)
    return len(fresh)


def newer(connection: Connection, seen: Mapping[str, datetime]) -> set[str]:
    """Of runs, by the time the server last changed each, those that the history has not so yet."""
    known = _by_id(connection, set(seen))
    return {id for id, at in seen.items() if id not in known or known[id]["updated"] < at}


def open_attempts(connection: Connection, most: int) -> list[str]:
    """Attempts that have not ended as far as is known, those in front that were not checked for
    longest."""
    # Not by what they are not: for that a database would read every attempt there is.
    wanted = select(Attempt.flow_run).where(col(Attempt.state).in_(_PROGRESS))
    found = connection.execute(wanted.order_by(col(Attempt.checked)).limit(most))
    return [id for (id,) in found]


def mark_checked(connection: Connection, ids: Iterable[str], at: datetime) -> None:
    """Note that these are still as they were."""
    for some in _in_parts(ids):
        which = col(Attempt.flow_run).in_(some)
        connection.execute(update(Attempt).where(which).values(checked=at))


def mark_deleted(connection: Connection, ids: Iterable[str], at: datetime) -> int:
    """Close attempts that were deleted before their end."""
    gone = {"state": "DELETED", "cause": "deleted before its end", "ended": at, "ran": None}
    rows = [row | gone | {"checked": at} for row in _by_id(connection, set(ids)).values()]
    return put(connection, rows, {})


def put_backlog(connection: Connection, rows: Sequence[Row]) -> None:
    """Write what waits and runs now."""
    connection.execute(delete(Backlog).where(col(Backlog.taken) == rows[0]["taken"]))
    connection.execute(insert(Backlog), list(rows))


def forget(connection: Connection, before: datetime) -> int:
    """Remove jobs that ended before, with their attempts, and backlogs. Returns how many attempts.

    What was counted of them stays, and is not counted again.
    """
    horizon = before.replace(hour=0, minute=0, second=0, microsecond=0)
    if watermark(connection, HORIZON) >= horizon:
        return 0
    times = [col(time) for time in (Attempt.submitted, Attempt.started, Attempt.ended)]
    late = or_(col(Attempt.ended).is_(None), *(time >= horizon for time in times))
    old = select(Attempt.job).where(col(Attempt.submitted) < horizon)
    # Not `distinct`: for that SQLite would walk through every job, by its index.
    jobs = {job for (job,) in connection.execute(old)}
    gone = 0
    for some in _in_parts(jobs):
        # Of the old ones alone, by their ids: those that stay for now would be all there are.
        stays = select(Attempt.job).where(col(Attempt.job).in_(some), late)
        some = sorted(set(some) - {job for (job,) in connection.execute(stays)})
        gone += connection.execute(delete(Attempt).where(col(Attempt.job).in_(some))).rowcount
        connection.execute(delete(Job).where(col(Job.job).in_(some)))
    connection.execute(delete(Backlog).where(col(Backlog.taken) < horizon))
    keep_watermark(connection, HORIZON, horizon)
    return gone


def watermark(connection: Connection, name: str) -> datetime:
    """How far something has come; 1970 where it has not begun."""
    found = connection.execute(select(Watermark.at).where(Watermark.name == name)).scalar()
    return found or datetime.fromtimestamp(0, UTC)


def keep_watermark(connection: Connection, name: str, at: datetime) -> None:
    """Move a watermark on; never back, as two passes at once may each have read as far."""
    known = connection.execute(select(Watermark.at).where(Watermark.name == name)).scalar()
    if known is None:
        connection.execute(insert(Watermark), [{"name": name, "at": at}])
    elif known < at:
        connection.execute(update(Watermark).where(col(Watermark.name) == name).values(at=at))


def _settle(
    connection: Connection, fresh: Mapping[str, Row], known: Sequence[Row]
) -> dict[str, Row]:
    """Write the jobs of new reader anew, and note on these which of them decided its job.

    Returns the other attempts at those jobs that this makes a difference to.
    """
    attempts: dict[str, list[Row]] = {}
    # An attempt may have been taken for another job's.
    jobs = {row["job"] for row in (*fresh.values(), *known)}
    for some in _in_parts(jobs):
        for row in _rows(connection, col(Attempt.job).in_(some)):
            if row["flow_run"] not in fresh:
                attempts.setdefault(row["job"], []).append(row)
    for row in fresh.values():
        attempts.setdefault(row["job"], []).append(row)
    settled: dict[str, Row] = {}
    others: dict[str, Row] = {}
    for job, tried in attempts.items():
        settled[job], decides = settle(tried)
        for row in tried:
            took = {"job_attempts": None, "job_starts": None}
            if row is decides:
                took = {name: settled[job][name.removeprefix("job_")] for name in took}
            if any(row[name] != value for name, value in took.items()):
                row |= took
                if row["flow_run"] not in fresh:
                    others[row["flow_run"]] = row
    for some in _in_parts(jobs - settled.keys()):
        connection.execute(delete(Job).where(col(Job.job).in_(some)))
    _replace(connection, Job, "job", settled)
    return others


def _moments(rows: Iterable[Row]) -> set[datetime]:
    """The minutes in which anything happened to these attempts."""
    times = (row[name] for row in rows for name in ("submitted", "started", "ended"))
    return {at.replace(second=0, microsecond=0) for at in times if at is not None}


def _is_newer(row: Row, known: Row) -> bool:
    if known["state"] == "DELETED":
        return False  # what is read now was on its way when it was deleted
    return _age(row) >= _age(known)


def _age(row: Row) -> tuple[datetime, int]:
    # Where a clock has ticked too slowly to tell, what is further on is later.
    further = _PROGRESS.index(row["state"]) if row["state"] in _PROGRESS else len(_PROGRESS)
    return row["updated"], further


def _differs(row: Row, known: Row | None) -> bool:
    if known is None:
        return True
    return any(row[name] != known[name] for name in row if name not in _NO_HISTORY)


def _by_id(connection: Connection, ids: set[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for some in _in_parts(ids):
        rows = _rows(connection, col(Attempt.flow_run).in_(some))
        found |= {row["flow_run"]: row for row in rows}
    return found


def _rows(connection: Connection, which: Any) -> Iterator[Row]:
    for row in connection.execute(columns(Attempt).select().where(which)).mappings():
        yield dict(row)


def _replace(
    connection: Connection, table: type[Attempt] | type[Job], key: str, rows: Mapping[str, Row]
) -> None:
    """Put rows in the place of those with the same key."""
    made = columns(table)
    for some in _in_parts(rows):
        connection.execute(made.delete().where(made.c[key].in_(some)))
        connection.execute(made.insert(), [rows[id] for id in some])


def _in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    every = sorted(values)
    return (every[start : start + _MANY] for start in range(0, len(every), _MANY))
