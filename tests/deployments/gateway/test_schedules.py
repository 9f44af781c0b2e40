"""The times of cron lines, also where clocks are changed, and which of several that were missed."""

from datetime import UTC, datetime, timedelta

import pytest

from deployments.gateway.schedules.cron import check_cron, newest_time, next_times
from tasks.errors import InvalidPayload

BERLIN = "Europe/Berlin"
NIGHT = "30 2 * * *"


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # pyright: ignore[reportArgumentType]  # no time zone among them


@pytest.mark.parametrize(
    ("after", "times"),
    [
        # In spring there is no half past two: the job comes an hour later.
        (utc(2026, 3, 28, 2), [utc(2026, 3, 29, 1, 30), utc(2026, 3, 30, 0, 30)]),
        # In autumn there are two: the first counts, also for who begins to look after it.
        (utc(2026, 10, 24, 2), [utc(2026, 10, 25, 0, 30), utc(2026, 10, 26, 1, 30)]),
        (utc(2026, 10, 25, 0, 30), [utc(2026, 10, 26, 1, 30), utc(2026, 10, 27, 1, 30)]),
    ],
)
async def test_times_where_clocks_are_changed(after: datetime, times: list[datetime]) -> None:
    assert await next_times(NIGHT, BERLIN, after, 2) == times


async def test_a_time_is_not_its_own_next() -> None:
    first, second = await next_times("* * * * *", "UTC", utc(2026, 1, 1), 2)
    assert (first, second) == (utc(2026, 1, 1, 0, 1), utc(2026, 1, 1, 0, 2))
    shortly_before = first - timedelta(milliseconds=1)
    assert await next_times("* * * * *", "UTC", shortly_before, 1) == [first]


async def test_the_newest_of_many_missed_times() -> None:
    since, now = utc(2026, 1, 1), utc(2026, 1, 3, 12, 0, 30)
    assert await newest_time("* * * * *", "UTC", since, now) == utc(2026, 1, 3, 12)
    assert await newest_time(NIGHT, "UTC", since, now) == utc(2026, 1, 3, 2, 30)
    assert await newest_time("0 0 1 2 *", "UTC", since, now) is None
    assert await newest_time("0 12 3 * *", "UTC", since, utc(2026, 1, 3, 12)) == utc(2026, 1, 3, 12)


@pytest.mark.parametrize(
    "cron",
    [
        *("", "1 2 3 4", "* * * * * *", "@daily", "R * * * *", "R(1-5) * * * *", "h/5 * * * *"),
        *("61 * * * *", "0 0 31 11 *"),
        pytest.param("* " * 5000, id="long"),
    ],
)
async def test_what_is_no_cron_line(cron: str) -> None:
    with pytest.raises(InvalidPayload, match=r"^cron: ") as refused:
        await check_cron(cron, "UTC")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "cron", ["*/15 8-18 * * mon-fri", "0 0 29 2 *", "0 0 l * *", "0 0 * mar fri"]
)
async def test_what_is_a_cron_line(cron: str) -> None:
    await check_cron(cron, BERLIN)
