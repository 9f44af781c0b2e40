"""Made-up lives of jobs: every state, requeues, cancels before a start, ties of clocks."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

Row = dict[str, Any]
TASKS = ("compress-images", "find-primes")


def instants(at: datetime, seconds: float) -> datetime:
    return at + timedelta(microseconds=round(seconds * 1e6))


def make_id(random: random.Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def attempt(job: str, run: str, number: int, submitted: datetime, **more: Any) -> Row:
    """An attempt that waits."""
    row: Row = {
        "flow_run": run,
        "job": job,
        "number": number,
        "task": "find-primes",
        "name": "quick-heron",
        "queue": "high" if number > 1 else "normal",
        "pool": "process",
        "worker": None,
        "host": None,
        "state": "SCHEDULED",
        "cause": None,
        "submitted": submitted,
        "due": submitted,
        "started": None,
        "ended": None,
        "starts": 0,
        "waited": None,
        "ran": None,
        "published_bytes": None,
        "updated": submitted,
        "checked": submitted,
    }
    return row | more


def started(row: Row, waited: float, starts: int = 1) -> Row:
    """The same, running."""
    at = instants(row["due"], waited)
    more = {"state": "RUNNING", "started": at, "waited": waited, "starts": starts, "updated": at}
    return row | more


def ended(row: Row, state: str, after: float, size: int | None = None) -> Row:
    """The same, over."""
    at = instants(row["started"] or row["due"], after)
    ran = None if row["started"] is None else after
    return row | {"state": state, "ended": at, "ran": ran, "updated": at, "published_bytes": size}


def lives(seed: int, jobs: int, begin: datetime, span: timedelta) -> Iterator[list[Row]]:
    """For each job all that could ever be read of its attempts, in order."""
    chance = random.Random(seed)
    for _ in range(jobs):
        job = make_id(chance)
        at = instants(begin, round(chance.random() * span.total_seconds()))  # many at one time
        about = {"task": chance.choice(TASKS), "queue": chance.choice(["high", "normal", "low"])}
        reader: list[Row] = []
        for number in range(1, 5):
            id = job if number == 1 else make_id(chance)
            row = attempt(
                job, id, number, at, **(about if number == 1 else {"task": about["task"]})
            )
            reader.append(row)
            fate = chance.random()
            if fate < 0.08:  # cancelled before it started
                reader.append(ended(row, "CANCELLED", chance.choice([0.0, 4.0])))
                break
            if fate < 0.12:  # not ended yet
                reader.append(started(row, chance.choice([0.0, 0.5])))
                break
            row = started(row, round(chance.expovariate(0.1), 6), chance.choice([1, 1, 1, 2]))
            reader.append(row)
            if fate < 0.3:
                row = ended(row, "CRASHED", round(chance.expovariate(0.01), 6))
                reader.append(row)
                at = instants(row["ended"], chance.choice([0.0, 7.5]))
                continue
            state = chance.choice(["COMPLETED"] * 6 + ["FAILED", "CANCELLED"])
            size = chance.randrange(10**9) if state == "COMPLETED" else None
            reader.append(ended(row, state, round(chance.expovariate(0.02), 6), size))
            break
        yield reader


def last(reader: list[Row]) -> list[Row]:
    """Each attempt as it was at the end."""
    newest: dict[str, Row] = {}
    for row in reader:
        newest[row["flow_run"]] = row
    return list(newest.values())


# Nights on which Europe and America change their clocks, and the week over New Year (2026-W53).
MOMENTS = {
    "spring": datetime(2026, 3, 28, 22, tzinfo=UTC),
    "autumn": datetime(2026, 10, 24, 22, tzinfo=UTC),
    "new year": datetime(2026, 12, 31, 20, tzinfo=UTC),
    "leap": datetime(2028, 2, 28, 20, tzinfo=UTC),
}
