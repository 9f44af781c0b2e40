"""Records that a job of a schedule was refused, so that its user is notified as of a failed job."""

import asyncio
from collections.abc import Callable
from uuid import UUID, uuid5

from deployments.gateway.schedules.kept import Failure, Schedule, Schedules
from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import repeat
from deployments.notifications.notifier.outcomes import one_line
from tasks.runtime.events import JobFailed
from tasks.settings import Settings

_LOOK = 5.0  # seconds between two looks at the schedules of the home


class Refusals:
    """Looks for schedules whose last due time had no job, in the gateway's home if that is ours.

    A schedule that is refused for the same reason again and again is recorded once.
    """

    def __init__(self, ledger: Ledger, settings: Settings, recorded: Callable[[], None]) -> None:
        self._ledger = ledger
        self._kept = Schedules(settings.home)
        self._recorded = recorded
        self._known = set[UUID]()

    async def run(self) -> None:
        """Record refusals until cancelled."""
        await repeat(self.look, asyncio.Event())

    async def look(self) -> float:
        """Record what is new. Returns the seconds to the next call."""
        found = [refusal(each, each.failure) for each in self._kept.all() if each.failure]
        if new := [event for event in found if event.job not in self._known]:
            begun = await self._ledger.begun()
            due = [(event, event.job) for event in new if event.ended > begun]
            if await self._ledger.record(due):
                self._recorded()
        self._known = {event.job for event in found}
        return _LOOK


def refusal(schedule: Schedule, failure: Failure) -> JobFailed:
    """The final event of a job that was refused: there is none of its id on the server."""
    first = failure.since or failure.due
    return JobFailed(
        job=uuid5(schedule.id, first.isoformat()),
        task=schedule.work.task,
        name=schedule.name,
        results_directory=schedule.work.results_directory,
        tags=list(dict.fromkeys([*schedule.work.tags, *schedule.tags])),
        ended=first,
        attempts=0,
        waited=0,
        ran=0,
        reason=one_line(
            f"schedule '{schedule.name}' submitted no job at {first:%Y-%m-%d %H:%M} UTC: "
            f"{failure.reason}"
        ),
    )
