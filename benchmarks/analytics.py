"""The run history against duckdb and plain SQL: counting, writing, and a pass over new attempts.

    .venv/bin/python benchmarks/analytics.py [--sizes 10000 100000 1000000] [--rounds 3]

Generated attempts, 1,000 an hour, of four tasks in three queues; one in ten crashes.

1. Counting every minute, hour, day, week and month at once, from the same rows: by tasks/history
   with polars, by duckdb, and by SQLite in plain SQL (counts and means; it has no percentiles).
   Ours computes percentiles of days and longer from merged histograms, duckdb from the rows.
2. Writing into the tables, in batches of 1,000, with every period updated by each batch; of more
   than 100,000 rows the last 100,000 are timed.
3. A pass over 1,000 new attempts, with `--sizes` attempts stored, without reading from the server.

Figures are medians over some rounds, in which the peers take turns, in one process.
"""

import argparse
import gc
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import polars as pl

from tasks.history import aggregate, store
from tasks.history.database import History, open_history
from tasks.history.outcomes import Row
from tasks.settings import Settings

TASKS = ("compress-images", "convert-images", "find-primes", "average-files")
QUEUES = ("high", "normal", "low")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
AN_HOUR = 1000
BATCH = 1000
TIMED = 100_000  # writes that are timed; earlier ones only fill the tables
MANY = 20_000
PERIODS = ("minute", "hour", "day", "week", "month")

# Each of an attempt's moments in a row of its own.
HAPPENED = """
WITH happened AS (
    SELECT submitted AS moment, task, queue, 'received' AS what, NULL AS value, NULL AS state
    FROM attempts WHERE number = 1
    UNION ALL
    SELECT started, task, queue, 'started', waited, NULL FROM attempts WHERE started IS NOT NULL
    UNION ALL
    SELECT ended, task, queue, 'ended', ran, state FROM attempts WHERE ended IS NOT NULL
)
"""

DUCKDB = f"""{HAPPENED}SELECT date_trunc('{{period}}', moment) AS start, task, queue,
    count(*) FILTER (what = 'received') AS received,
    count(*) FILTER (what = 'started') AS started,
    count(*) FILTER (state = 'COMPLETED') AS completed,
    count(*) FILTER (state = 'FAILED') AS failed,
    count(*) FILTER (state = 'CRASHED') AS crashed,
    count(*) FILTER (state = 'CANCELLED') AS cancelled,
    avg(value) FILTER (what = 'started') AS waited_mean,
    quantile_disc(value, [0.5, 0.95, 0.99]) FILTER (what = 'started') AS waited,
    avg(value) FILTER (what = 'ended') AS ran_mean,
    quantile_disc(value, [0.5, 0.95, 0.99]) FILTER (what = 'ended') AS ran
FROM happened GROUP BY ALL
"""

SQLITE = f"""{HAPPENED}SELECT {{start}} AS start, task, queue,
    sum(what = 'received'), sum(what = 'started'),
    sum(state = 'COMPLETED'), sum(state = 'FAILED'),
    sum(state = 'CRASHED'), sum(state = 'CANCELLED'),
    avg(CASE WHEN what = 'started' THEN value END), avg(CASE WHEN what = 'ended' THEN value END)
FROM happened GROUP BY 1, 2, 3
"""
STARTS = {
    "minute": "substr(moment, 1, 16)",
    "hour": "substr(moment, 1, 13)",
    "day": "substr(moment, 1, 10)",
    "week": "date(moment, '-6 days', 'weekday 1')",
    "month": "substr(moment, 1, 7)",
}


def attempts(count: int, begin: datetime = BEGIN, seed: int = 1) -> Iterator[Row]:
    """Generate `count` attempts; each belongs to a new job, except those after a crash."""
    chance = random.Random(seed)
    job, number, task = "", 1, TASKS[0]
    for index in range(count):
        submitted = begin + timedelta(seconds=index * 3600 / AN_HOUR)
        # Like Prefect's ids (RFC 9562, version 7): they begin with the time, so they increase.
        time_of = round(submitted.timestamp() * 1000) << 80
        id = str(UUID(int=time_of | 0x7 << 76 | 0x8 << 60 | chance.getrandbits(60)))
        if number == 1:
            job, task = id, chance.choice(TASKS)
        started = submitted + timedelta(microseconds=round(chance.expovariate(0.2) * 1e6))
        ended = started + timedelta(microseconds=round(chance.expovariate(0.05) * 1e6))
        state = chance.choices(["COMPLETED", "CRASHED", "FAILED", "CANCELLED"], [86, 10, 3, 1])[0]
        yield {
            "flow_run": id,
            "job": job,
            "number": number,
            "task": task,
            "name": "quick-heron",
            "queue": "high" if number > 1 else chance.choice(QUEUES),
            "pool": "docker",
            "worker": "prefecture-host-1",
            "host": "host",
            "state": state,
            "cause": None,
            "submitted": submitted,
            "due": submitted,
            "started": started,
            "ended": ended,
            "starts": 1,
            "waited": (started - submitted).total_seconds(),
            "ran": (ended - started).total_seconds(),
            "published_bytes": 1000 if state == "COMPLETED" else None,
            "updated": ended,
            "checked": ended,
        }
        number = number + 1 if state == "CRASHED" else 1


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Split rows into batches: a million rows at once would take gigabytes."""
    rest = iter(rows)
    while batch := list(islice(rest, size)):
        yield batch


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    """The data frame that is counted, from rows."""
    return pl.concat(map(_frame, batches(rows, MANY))).rechunk()


def _frame(rows: Sequence[Row]) -> pl.DataFrame:
    decided = [None if row["state"] == "CRASHED" else row["number"] for row in rows]
    columns: dict[str, list[Any]] = {
        name: [_plain(row[name]) for row in rows]
        for name in aggregate.ATTEMPTS
        if not name.startswith("job_")
    }
    return pl.DataFrame(
        columns | {"job_attempts": decided, "job_starts": decided}, schema=aggregate.ATTEMPTS
    )


def ours(data: pl.DataFrame) -> list[pl.DataFrame]:
    """Count every period by tasks/history."""
    counted = aggregate.count_attempts(data)
    days = aggregate.merge(counted["hour"], "day")
    longer = [aggregate.merge(days, period) for period in ("week", "month")]
    return [counted["minute"], counted["hour"], days, *longer]


def in_duckdb(attempts: pl.DataFrame) -> list[pl.DataFrame]:
    """Count every period in duckdb, from the same data frame without a copy."""
    with duckdb.connect() as connection:
        connection.register("attempts", attempts.to_arrow())
        return [
            pl.DataFrame(connection.sql(DUCKDB.format(period=period)).to_arrow_table())
            for period in PERIODS
        ]


def in_sqlite(database: sqlite3.Connection) -> list[list[Any]]:
    """Count every period in plain SQL, without percentiles."""
    return [database.execute(SQLITE.format(start=STARTS[p])).fetchall() for p in PERIODS]


def check(data: pl.DataFrame) -> None:
    """Assert that duckdb has the same counts, and percentiles within 0.51 %."""
    for mine, other in zip(ours(data), in_duckdb(data), strict=True):
        other = other.with_columns(pl.col("start").cast(pl.Datetime("us")))
        both = mine.join(other, on=aggregate.KEYS, how="full", suffix="_duckdb")
        assert len(both) == len(mine) == len(other)
        for name in ("received", "started", "completed", "failed", "crashed", "cancelled"):
            assert (both[name] == both[f"{name}_duckdb"]).all(), name
        for at, percent in enumerate((50, 95, 99)):
            found, exact = both[f"ran_p{percent}"], both["ran_duckdb"].list.get(at)
            off = ((found - exact).abs() / exact).drop_nulls()
            assert (off <= 0.0051).all(), (percent, off.max())


def measure(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each function; the functions take turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            gc.collect()
            begun = time.perf_counter()
            work()
            times[name].append(time.perf_counter() - begun)
    return {name: statistics.median(each) for name, each in times.items()}


def count(size: int, rounds: int) -> None:
    """Part 1: print the counting speed of each peer."""
    data = frame(attempts(size))
    check(data)
    database = sqlite3.connect(":memory:")
    columns = list(aggregate.ATTEMPTS)[:-2]
    database.execute(f"CREATE TABLE attempts ({', '.join(columns)})")
    values = (
        [str(v) if isinstance(v, datetime) else v for v in row]
        for row in data.select(columns).iter_rows()
    )
    database.executemany(f"INSERT INTO attempts VALUES ({', '.join('?' * len(columns))})", values)
    works: dict[str, Callable[[], Any]] = {
        "ours": lambda: ours(data),
        "duckdb": lambda: in_duckdb(data),
        "SQLite, no percentiles": lambda: in_sqlite(database),
    }
    found = measure(works, rounds)
    for name, seconds in found.items():
        ratio = seconds / found["ours"]
        print(f"  {name:24} {seconds:8.3f} s {size / seconds:12,.0f} rows/s {ratio:6.2f} x")
    database.close()


def write(size: int, rounds: int) -> float:
    """Parts 2 and 3: print the speed of writes and of a pass. Returns the seconds of a pass."""
    rows, timed = attempts(size), min(size, TIMED)
    with tempfile.TemporaryDirectory() as folder, open_history(Settings(home=Path(folder))) as it:
        it.migrate()
        for batch in batches(islice(rows, size - timed), MANY):
            with it.writing() as connection:
                store.put(connection, batch, {})
        seconds = 0.0
        for batch in batches(rows, BATCH):
            begun = time.perf_counter()
            with it.writing() as connection:
                store.put(connection, batch, {})
            seconds += time.perf_counter() - begun
        print(f"  into the tables          {seconds:8.1f} s {timed / seconds:12,.0f} rows/s")
        times: list[float] = []
        for number in range(2 * rounds + 1):
            after = BEGIN + timedelta(hours=(size + number * BATCH) / AN_HOUR)
            new = list(attempts(BATCH, after, seed=100 + number))
            begun = time.perf_counter()
            run_a_pass(it, new)
            times.append(time.perf_counter() - begun)
        a_pass = statistics.median(times)
        print(f"  a pass over {BATCH:,} new    {a_pass:8.3f} s")
    return a_pass


def run_a_pass(history: History, new: Sequence[Row]) -> None:
    """Run the steps of aggregate-history after reading from the server."""
    now: datetime = new[-1]["ended"]
    with history.writing() as connection:
        wanted = store.newer(connection, {row["flow_run"]: row["updated"] for row in new})
        assert len(wanted) == len(new)
    with history.writing() as connection:
        store.put(connection, new, {"ended": now})
    with history.writing() as connection:
        store.mark_checked(connection, store.open_attempts(connection, 200), now)
    counts = {"pending": 0, "running": 0, "oldest_wait": 0.0}
    with history.writing() as connection:
        store.put_backlog(connection, [{"taken": now, "queue": queue} | counts for queue in QUEUES])
        store.forget(connection, BEGIN)


def _plain(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def main(arguments: Sequence[str]) -> None:
    """Measure all sizes and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    passes: dict[int, float] = {}
    for size in given.sizes:
        print(f"{size:,} attempts")
        count(size, given.rounds)
        passes[size] = write(size, given.rounds)
    least, most = min(passes), max(passes)
    ratio = passes[most] / passes[least]
    print(f"a pass with {most:,} stored takes {ratio:.2f} times as long as with {least:,}")


if __name__ == "__main__":
    main(sys.argv[1:])
