"""Removes the results that have expired: once in the whole system, beside the notifier."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient

from deployments.retention.choice import Rules, expired
from deployments.retention.in_use import read_in_use
from deployments.retention.repeating import repeat
from tasks.settings import Settings
from tasks.storage.retention.opening import open_retention
from tasks.storage.retention.records import KeptResult, Retention

PLATFORM_TASKS = frozenset({"report-usage"})
"""Tasks whose results are no jobs' and have a time of their own: PREFECTURE_HISTORY_DAYS."""
_log = logging.getLogger(__name__)

Chosen = Sequence[tuple[KeptResult, str]]
"""Results to remove, the oldest first, each with the reason."""


@dataclass(frozen=True)
class Removed:
    """What was removed."""

    results: int
    bytes: int
    busy: int
    """How many could not be, since somebody reads them."""


class Expiry:
    """Looks for expired results, and removes them."""

    def __init__(
        self, client: PrefectClient, settings: Settings, retention: Retention | None = None
    ) -> None:
        self._client = client
        self._rules = rules_of(settings)
        self._retention = retention or open_retention(settings)

    async def run(self) -> None:
        """Remove what has expired, until cancelled."""
        await repeat(self._look, "expired results are not removed")

    async def chosen(self, rules: Rules | None = None, now: datetime | None = None) -> Chosen:
        """The results that have expired. `rules`: in place of those of the settings."""
        at, in_force = now or datetime.now(UTC), rules or self._rules

        def read() -> list[KeptResult]:
            found = self._retention.results()
            return [result for result in found if result.task not in PLATFORM_TASKS]

        results = await asyncio.to_thread(read)
        if not expired(results, in_force, at):
            return []
        # Only now, since it takes a while where many jobs wait.
        spared = (await read_in_use(self._client)).jobs
        return expired(results, in_force, at, spared)

    async def remove(self, chosen: Chosen) -> Removed:
        """Remove results, and what is left of those that were removed before."""

        def remove() -> Removed:
            done = [
                result.bytes for result, reason in chosen if self._retention.remove(result, reason)
            ]
            self._retention.finish()
            return Removed(len(done), sum(done), len(chosen) - len(done))

        return await asyncio.to_thread(remove)

    async def _look(self) -> None:
        removed = await self.remove(await self.chosen())
        if removed.results:
            _log.info("%d expired results removed, %d bytes", removed.results, removed.bytes)


def rules_of(settings: Settings) -> Rules:
    """When results expire, as the settings say."""
    days, size = settings.results_days, settings.results_size
    age = None if days is None else timedelta(days=days)
    return Rules(age, None if size is None else int(size))


def expires_at(settings: Settings, published: datetime, asked: datetime | None) -> datetime | None:
    """When a result expires; None where it does not by its age."""
    age = rules_of(settings).age
    by_age = None if age is None else published + age
    return min((time for time in (asked, by_age) if time is not None), default=None)
