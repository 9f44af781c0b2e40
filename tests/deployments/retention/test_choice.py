"""Which results expire, and what is in use."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from deployments.retention.choice import YOUNG, Rules, expired
from deployments.retention.in_use import InUse
from tasks.storage.retention.records import KeptResult

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DAY = timedelta(days=1)
NEVER = Rules(None, None)


def result(days: float, size: int = 10, asked: float | None = None) -> KeptResult:
    """A result that was published some days ago. `asked`: days that its job has asked for."""
    job, published = uuid4(), NOW - days * DAY
    until = None if asked is None else published + asked * DAY
    return KeptResult(str(job), job, job, "find-primes", None, size, published, until)


def jobs(results: list[KeptResult], rules: Rules, *spared: UUID) -> list[UUID]:
    return [chosen.job for chosen, _ in expired(results, rules, NOW, spared)]


def test_the_sooner_of_two_times_counts() -> None:
    old, asked, longer, fresh = result(8), result(2, asked=1), result(8, asked=99), result(6)
    all_ = [fresh, longer, asked, old]
    assert jobs(all_, NEVER) == [asked.job]
    assert {*jobs(all_, Rules(7 * DAY, None))} == {old.job, longer.job, asked.job}
    assert jobs(all_, Rules(7 * DAY, None), old.job, longer.job) == [asked.job]


def test_the_oldest_go_until_the_rest_fits() -> None:
    first, second, third = result(3), result(2), result(1)
    all_ = [third, first, second]
    assert jobs(all_, Rules(None, 30)) == []
    assert jobs(all_, Rules(None, 29)) == [first.job]
    assert jobs(all_, Rules(None, 29), first.job) == [second.job]
    assert jobs(all_, Rules(2.5 * DAY, 20)) == [first.job], "what is too old makes room"
    assert jobs(all_, Rules(None, 0)) == [first.job, second.job, third.job]
    young = result(YOUNG / DAY / 2)
    assert jobs([young], Rules(None, 0)) == []


def test_what_the_reasons_say() -> None:
    rules = Rules(DAY, 5)
    for one, said in (
        (result(2), "kept for 1 day here"),
        (result(0.5), "all results together had more than 5 bytes"),
        (result(0.5, asked=0.1), "its job had asked"),
    ):
        ((_, reason),) = expired([one], rules, NOW)
        assert said in reason


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("users/anna/a", {"users/anna/a/b.csv", "users/anna/a/c.csv"}),
        ("users/anna/a/", {"users/anna/a/b.csv", "users/anna/a/c.csv"}),
        ("users/anna/a/b.csv", {"users/anna/a/b.csv"}),
        ("users/anna/a/b*", {"users/anna/a/b.csv"}),
        ("users/*/a", {"users/anna/a/b.csv", "users/anna/a/c.csv", "users/bob/a"}),
        ("users/ann", set[str]()),
        ("s3://up/x/users/anna/", {"s3://up/x/users/anna/a.csv"}),
        ("s3://up/x/users/*/a.csv", {"s3://up/x/users/anna/a.csv"}),
        ("photos", set[str]()),
    ],
)
def test_inputs_that_a_job_names_are_kept(source: str, kept: set[str]) -> None:
    in_use, job, other, third = InUse(), uuid4(), uuid4(), uuid4()
    read = [f"job://{other}/x.csv", f"job://trips/2026/{third}/*"]
    in_use.add(job, {"payload": {"build": {"context": source}, "more": read}})
    files = {"users/anna/a/b.csv", "users/anna/a/c.csv", "users/bob/a"}
    files |= {"s3://up/x/users/anna/a.csv"}
    assert {path for path in files if in_use.has_input(path)} == kept
    assert in_use.jobs == {job, other, third}
