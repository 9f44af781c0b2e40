"""The times of a cron line: those of Prefect's own schedules, also where clocks are changed."""

import re
from datetime import UTC, datetime, timedelta

from prefect.server.schemas.schedules import CronSchedule

from deployments.jobs.request import cut
from deployments.jobs.schedules import cron_schedule
from tasks.errors import InvalidPayload

_FIELDS = 5
_LONGEST = 200  # characters
_RANDOM = re.compile(r"(^|[\s,])[hr]([^a-z]|$)", re.IGNORECASE)  # times that differ at each reading
_AT_ONCE = 1_000  # times that are read together
_STEP = timedelta(seconds=1)


async def check_cron(cron: str, timezone: str) -> None:
    """Raise InvalidPayload for a cron line that is invalid, names seconds, or has no time, and for
    an unknown time zone."""
    if not timezone:
        raise InvalidPayload("timezone: it is empty: use one such as Europe/Berlin")
    if len(cron) <= _LONGEST and not _RANDOM.search(cron):
        cron_schedule(cron, timezone)
    if len(cron) > _LONGEST or _RANDOM.search(cron) or len(cron.split()) != _FIELDS:
        raise InvalidPayload(
            f"cron: {cut(cron)!r} is no cron line of five fields: use minute, hour, day, month and "
            "weekday, such as '30 2 * * *' for half past two each night"
        )
    if not await next_times(cron, timezone, datetime.now(UTC), 1):
        raise InvalidPayload(
            f"cron: {cut(cron)!r} has no time: no month that it names has such a day"
        )


async def next_times(cron: str, timezone: str, after: datetime, count: int) -> list[datetime]:
    """The next times after a time, in UTC, `count` at most: fewer where there are no more."""
    schedule = CronSchedule(cron=cron, timezone=timezone)
    start = after.replace(microsecond=0) + _STEP
    try:
        found = await schedule.get_dates(count, start=start)
    except ValueError:  # no such day in the next decades
        return []
    # Plain, and without what Prefect adds to the type.
    return [datetime.fromtimestamp(at.timestamp(), UTC) for at in found]


async def newest_time(
    cron: str, timezone: str, after: datetime, until: datetime
) -> datetime | None:
    """The last time after one time and not after another; None where there is none."""
    newest = None
    while True:
        times = await next_times(cron, timezone, newest or after, _AT_ONCE)
        passed = [at for at in times if at <= until]
        newest = passed[-1] if passed else newest
        if len(passed) < _AT_ONCE:
            return newest
