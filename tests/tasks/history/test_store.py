"""Every figure of the history against the same one computed another way."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from tasks.history.database import History
from tasks.history.outcomes import Row
from tasks.history.schema import Attempt, AttemptsPerTask, Job, Throughput, columns
from tasks.history.store import forget, mark_deleted, put, watermark
from tests.tasks.history import truth
from tests.tasks.history.lives import MOMENTS, attempt, ended, last, lives, started

EXACT = ("minute", "hour")
COUNTS = ("received", "started", "completed", "failed", "crashed", "cancelled", "ran")


def read(history: History, table: Any) -> list[Row]:
    """Every row, in the order of the keys."""
    made = columns(table)
    wanted = select(made).order_by(*made.primary_key)
    with history.reading() as connection:
        return [dict(row) for row in connection.execute(wanted).mappings()]


def write(history: History, rows: list[Row]) -> int:
    with history.writing() as connection:
        return put(connection, rows, {})


def check(history: History, rows: list[Row]) -> None:
    """Compare every row of every table with the truth."""
    found = {(r["period"], r["start"], r["task"], r["queue"]): r for r in read(history, Throughput)}
    wanted = truth.throughput(rows)
    assert found.keys() == wanted.keys()
    for key, row in found.items():
        for name in (*COUNTS, "published_bytes"):
            assert row[name] == wanted[key].get(name, 0), (key, name)
        for measure in ("waited", "ran"):
            assert row[f"{measure}_total"] == pytest.approx(
                wanted[key].get(f"{measure}_total", 0), abs=1e-6
            )
            assert row[f"{measure}_mean"] == pytest.approx(wanted[key].get(f"{measure}_mean"))
            for percent in (50, 95, 99):
                name = f"{measure}_p{percent}"
                exact = wanted[key].get(name)
                if key[0] in EXACT or not exact:
                    assert row[name] == exact, (key, name)
                else:
                    assert row[name] == pytest.approx(exact, rel=0.005), (key, name)
    takes = {
        (r["period"], r["start"], r["task"]): (r["jobs"], r["attempts"], r["starts"])
        for r in read(history, AttemptsPerTask)
    }
    assert takes == truth.takes(rows)
    for row in read(history, AttemptsPerTask):
        assert row["average_starts"] == row["starts"] / row["jobs"]
    outcomes = {row["job"]: row["outcome"] for row in read(history, Job)}
    decided = truth.deciding(rows)
    assert outcomes == {
        row["job"]: truth.OUTCOMES[decided[row["job"]]["state"]]
        if row["job"] in decided
        else "open"
        for row in rows
    }


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_figure(history: History, moment: str) -> None:
    every = list(lives(7, 120, MOMENTS[moment], timedelta(hours=9)))
    rows = [row for reader in every for row in last(reader)]
    assert write(history, rows) == len(rows)
    check(history, rows)
    assert write(history, rows) == 0, "nothing is new the second time"
    check(history, rows)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_order_and_repetition_of_batches(history: History, data: st.DataObject) -> None:
    with history.writing() as connection:
        for table in (Attempt, Job, Throughput, AttemptsPerTask):
            connection.execute(columns(table).delete())
    every = list(lives(data.draw(st.integers(0, 9)), 12, MOMENTS["new year"], timedelta(hours=6)))
    reader = [row for life in every for row in life]
    again = data.draw(st.lists(st.sampled_from(range(len(reader))), max_size=10))
    order = data.draw(st.permutations([*range(len(reader)), *again]))
    cuts = data.draw(st.lists(st.integers(1, len(order)), max_size=5))
    for start, end in pairwise([0, *sorted(cuts), len(order)]):
        write(history, [reader[index] for index in order[start:end]])
    check(history, [row for life in every for row in last(life)])


def test_an_edited_end_counts_once(history: History) -> None:
    job = "00000000-0000-4000-8000-000000000001"
    row = ended(started(attempt(job, job, 1, MOMENTS["spring"]), 1.0), "COMPLETED", 5.0, 10)
    write(history, [row])
    edited = ended(row, "FAILED", 9000.0)
    write(history, [edited])
    check(history, [edited])
    write(history, [row])  # an older reading, late
    check(history, [edited])


def test_a_deleted_run_is_closed_and_stays(history: History) -> None:
    job = "00000000-0000-4000-8000-000000000001"
    row = attempt(job, job, 1, MOMENTS["spring"])
    write(history, [row])
    at = MOMENTS["spring"] + timedelta(hours=1)
    with history.writing() as connection:
        assert mark_deleted(connection, [job], at) == 1
    write(history, [row])
    (found,) = read(history, Attempt)
    assert (found["state"], found["ended"]) == ("DELETED", at)
    (found,) = read(history, Job)
    assert (found["outcome"], found["ended"]) == ("deleted", at)
    hours = [row for row in read(history, Throughput) if row["period"] == "hour"]
    assert [row["received"] for row in hours] == [1]
    assert {row["failed"] + row["cancelled"] for row in hours} == {0}


def test_forgetting_attempts_takes_nothing_from_the_counts(history: History) -> None:
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    every = list(lives(3, 80, begin, timedelta(days=20)))
    rows = [row for life in every for row in last(life)]
    write(history, rows)
    horizon = begin + timedelta(days=10, hours=5)
    with history.writing() as connection:
        assert forget(connection, horizon) > 0
        assert forget(connection, horizon) == 0
        assert watermark(connection, "horizon") == begin + timedelta(days=10)
    counted = read(history, Throughput), read(history, AttemptsPerTask)
    kept = {row["flow_run"] for row in read(history, Attempt)}
    assert 0 < len(kept) < len(rows)
    assert {row["job"] for row in read(history, Job)} == {
        row["job"] for row in rows if row["flow_run"] in kept
    }
    # What touches the days that are kept, and a late one before them.
    late = attempt("0" * 36, "0" * 36, 1, begin + timedelta(hours=1))
    later = [row | {"updated": row["updated"] + timedelta(days=30)} for row in rows]
    write(history, [*(row for row in later if row["flow_run"] in kept), late])
    assert (read(history, Throughput), read(history, AttemptsPerTask)) == counted


def test_a_failed_attempt_that_is_retried_counts_as_it_ended_last(history: History) -> None:
    at = MOMENTS["spring"]
    waits = attempt("job", "run", 1, at)
    failed = ended(started(waits, 1.0), "FAILED", 5.0)
    # Retry in Prefect's UI: the same run, with the time of its first start.
    again = failed | {"state": "RUNNING", "ended": None, "ran": None, "starts": 2}
    again["updated"] = failed["updated"] + timedelta(hours=2)
    completed = again | {"state": "COMPLETED", "ended": again["updated"], "ran": 9.0}
    completed["updated"] = again["updated"] + timedelta(seconds=4)
    for row, outcome in ((failed, "failed"), (again, "open"), (completed, "completed")):
        assert write(history, [row]) == 1
        check(history, [row])
        assert [job["outcome"] for job in read(history, Job)] == [outcome]
    assert write(history, [failed]) == 0, "what was read earlier and comes late"
