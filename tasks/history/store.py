"""Writes attempts into the history, with their jobs and the periods that they change.

One call runs in one transaction, with the watermark: a killed call has no effect, and a repeated
call changes nothing. Periods are counted anew from the attempts of their hours, never incremented;
periods before the horizon, whose attempts are deleted, stay unchanged.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, update
from sqlmodel import col, select

from tasks.history.outcomes import Row, job_row
from tasks.history.periods import recount
from tasks.history.schema import Attempt, Backlog, Job, Watermark, columns

HORIZON = "horizon"
"""Name of the watermark before which attempts are deleted."""

_MANY = 500  # values in one query
_PROGRESS = ("SCHEDULED", "PAUSED", "PENDING", "RUNNING", "CANCELLING")
_NO_HISTORY = ("checked", "job_attempts", "job_starts")  # set here, not by the server


def put(connection: Connection, rows: Sequence[Row], marks: Mapping[str, datetime]) -> int:
    """Write attempts and watermarks. Returns how many attempts were new or had changed.

    Of two versions of one attempt the later is kept, in whatever order they are written.
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
        others = _write_jobs(connection, fresh, known)
        _replace(connection, Attempt, "flow_run", fresh | others)
        moments = _moments([*fresh.values(), *known, *others.values()])
        recount(connection, moments, watermark(connection, HORIZON))
    for name, at in marks.items():
        keep_watermark(connection, name, at)
    return len(fresh)


def newer(connection: Connection, seen: Mapping[str, datetime]) -> set[str]:
    """Return the ids of runs that the history does not have in this version.

    `seen`: ids of runs, with the time when the server last changed each.
    """
    known = _by_id(connection, set(seen))
    return {id for id, at in seen.items() if id not in known or known[id]["updated"] < at}


def open_attempts(connection: Connection, most: int) -> list[str]:
    """Return the ids of open attempts, at most `most`: first those checked longest ago."""
    # By the open states, not by `not in` the final ones: that would read every attempt.
    wanted = select(Attempt.flow_run).where(col(Attempt.state).in_(_PROGRESS))
    found = connection.execute(wanted.order_by(col(Attempt.checked)).limit(most))
    return [id for (id,) in found]


def mark_checked(connection: Connection, ids: Iterable[str], at: datetime) -> None:
    """Note that the server was asked for these attempts."""
    for some in _in_parts(ids):
        which = col(Attempt.flow_run).in_(some)
        connection.execute(update(Attempt).where(which).values(checked=at))


def mark_deleted(connection: Connection, ids: Iterable[str], at: datetime) -> int:
    """Set attempts to DELETED, which were deleted before their end. Returns their number."""
    gone = {"state": "DELETED", "cause": "deleted before its end", "ended": at, "ran": None}
    rows = [row | gone | {"checked": at} for row in _by_id(connection, set(ids)).values()]
    return put(connection, rows, {})


def put_backlog(connection: Connection, rows: Sequence[Row]) -> None:
    """Write the current backlog."""
    connection.execute(delete(Backlog).where(col(Backlog.taken) == rows[0]["taken"]))
    connection.execute(insert(Backlog), list(rows))


def forget(connection: Connection, before: datetime) -> int:
    """Delete jobs that ended before a day, with their attempts, and backlogs.

    Their counts stay. Returns the number of attempts.
    """
    horizon = before.replace(hour=0, minute=0, second=0, microsecond=0)
    if watermark(connection, HORIZON) >= horizon:
        return 0
    times = [col(time) for time in (Attempt.submitted, Attempt.started, Attempt.ended)]
    late = or_(col(Attempt.ended).is_(None), *(time >= horizon for time in times))
    old = select(Attempt.job).where(col(Attempt.submitted) < horizon)
    # Not `distinct`: SQLite would scan the index of all jobs.
    jobs = {job for (job,) in connection.execute(old)}
    gone = 0
    for some in _in_parts(jobs):
        # Restricted to these ids: without, the query would return almost every job.
        stays = select(Attempt.job).where(col(Attempt.job).in_(some), late)
        some = sorted(set(some) - {job for (job,) in connection.execute(stays)})
        gone += connection.execute(delete(Attempt).where(col(Attempt.job).in_(some))).rowcount
        connection.execute(delete(Job).where(col(Job.job).in_(some)))
    connection.execute(delete(Backlog).where(col(Backlog.taken) < horizon))
    keep_watermark(connection, HORIZON, horizon)
    return gone


def watermark(connection: Connection, name: str) -> datetime:
    """Return a watermark; 1970 where there is none yet."""
    found = connection.execute(select(Watermark.at).where(Watermark.name == name)).scalar()
    return found or datetime.fromtimestamp(0, UTC)


def keep_watermark(connection: Connection, name: str, at: datetime) -> None:
    """Move a watermark forward, never back: two passes may run at once."""
    known = connection.execute(select(Watermark.at).where(Watermark.name == name)).scalar()
    if known is None:
        connection.execute(insert(Watermark), [{"name": name, "at": at}])
    elif known < at:
        connection.execute(update(Watermark).where(col(Watermark.name) == name).values(at=at))


def _write_jobs(
    connection: Connection, fresh: Mapping[str, Row], known: Sequence[Row]
) -> dict[str, Row]:
    """Write the jobs of new attempts anew, and note on the attempts which of them decided a job.

    Returns the other attempts at those jobs that this changes, by id.
    """
    attempts: dict[str, list[Row]] = {}
    # An attempt may have belonged to another job before.
    jobs = {row["job"] for row in (*fresh.values(), *known)}
    for some in _in_parts(jobs):
        for row in _rows(connection, col(Attempt.job).in_(some)):
            if row["flow_run"] not in fresh:
                attempts.setdefault(row["job"], []).append(row)
    for row in fresh.values():
        attempts.setdefault(row["job"], []).append(row)
    jobs_by_id: dict[str, Row] = {}
    others: dict[str, Row] = {}
    for job, tried in attempts.items():
        jobs_by_id[job], decides = job_row(tried)
        for row in tried:
            took = {"job_attempts": None, "job_starts": None}
            if row is decides:
                took = {name: jobs_by_id[job][name.removeprefix("job_")] for name in took}
            if any(row[name] != value for name, value in took.items()):
                row |= took
                if row["flow_run"] not in fresh:
                    others[row["flow_run"]] = row
    for some in _in_parts(jobs - jobs_by_id.keys()):
        connection.execute(delete(Job).where(col(Job.job).in_(some)))
    _replace(connection, Job, "job", jobs_by_id)
    return others


def _moments(rows: Iterable[Row]) -> set[datetime]:
    """Return the minutes in which these attempts were submitted, started or ended."""
    times = (row[name] for row in rows for name in ("submitted", "started", "ended"))
    return {at.replace(second=0, microsecond=0) for at in times if at is not None}


def _is_newer(row: Row, known: Row) -> bool:
    if known["state"] == "DELETED":
        return False  # this version was read before the run was deleted
    return _age(row) >= _age(known)


def _age(row: Row) -> tuple[datetime, int]:
    # Of two versions with the same time, the one with the further state is later.
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
    """Replace the rows with the same key."""
    made = columns(table)
    for some in _in_parts(rows):
        connection.execute(made.delete().where(made.c[key].in_(some)))
        connection.execute(made.insert(), [rows[id] for id in some])


def _in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    every = sorted(values)
    return (every[start : start + _MANY] for start in range(0, len(every), _MANY))
