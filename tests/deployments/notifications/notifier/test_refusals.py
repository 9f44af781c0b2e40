"""A schedule whose job is refused at its time notifies as a job that has failed."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.gateway.schedules.kept import Failure, Schedule, Schedules, Work
from deployments.notifications.ledger import Ledger, open_ledger
from deployments.notifications.notifier.refusals import Refusals
from deployments.notifications.subscribers import Subscriber
from tasks.runtime.events import JobFailed
from tasks.settings import Settings

HOOK = {"url": "https://example.org/hook", "secret": "secret/key"}
ANNA = {"name": "anna", "jobs": {"tags": ["user:anna"]}, "to": {"webhook": HOOK}}
WORK = {"task": "find-primes", "payload": {"upper_bound": 10}, "results_directory": "primes"}


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
async def ledger(settings: Settings) -> AsyncGenerator[Ledger]:
    async with open_ledger(settings) as ledger:
        await ledger.keep([Subscriber.model_validate(ANNA)])
        yield ledger


async def test_a_user_is_notified_once_of_each_reason(settings: Settings, ledger: Ledger) -> None:
    kept, now = Schedules(settings.home, 1), datetime.now(UTC)
    nightly = kept.add(
        Schedule(
            id=uuid4(),
            user="anna",
            token="one",
            name="nightly",
            work=Work.model_validate(WORK),
            cron="0 0 * * *",
            timezone="UTC",
            created=now,
            done=now,
        )
    )
    woken: list[int] = []
    refusals = Refusals(ledger, settings, lambda: woken.append(1))

    async def notified(reason: str | None, due: datetime) -> list[str]:
        """The reasons that anna is notified of, in the order of their times."""
        (known,) = kept.all()
        failure = Failure.after(known.failure, due, reason) if reason else None
        kept.change({nightly.id: {"failure": failure}})
        await refusals.look()
        events = [event for _, event in await ledger.due("anna", 10)]
        assert all(isinstance(event, JobFailed) for event in events)
        return [event.reason for event in events if isinstance(event, JobFailed)]

    day = timedelta(days=1)
    first = now + day
    assert await notified("no quota", now - day) == [], "before there was a notifier"
    assert await notified(None, now) == []
    told = f"schedule 'nightly' submitted no job at {first:%Y-%m-%d %H:%M} UTC: no quota"
    assert await notified("no quota", first) == [told]
    assert await notified("no quota", first + day) == [told], "it goes on"
    assert len(await notified("no such file", first + 2 * day)) == 2
    again = Refusals(ledger, settings, lambda: woken.append(1))
    await again.look()
    assert len(await ledger.due("anna", 10)) == 2
    assert len(woken) == 2
