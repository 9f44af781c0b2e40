"""The options that select jobs, common to several commands."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import Parameter

from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import JobState
from tasks.contracts import Queue
from tasks.errors import InvalidPayload

_REPEATED = Parameter(negative="", show_default=False)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Options that select jobs."""

    state: Annotated[tuple[JobState, ...], _REPEATED] = ()
    """Only jobs in this state; may be repeated."""
    task: str | None = None
    """Only jobs of this compute task."""
    tag: Annotated[tuple[str, ...], _REPEATED] = ()
    """Only jobs with this tag; if repeated, only jobs with all of these tags."""
    queue: Queue | None = None
    """Only jobs of this queue."""
    directory: str | None = None
    """Only jobs of this results directory and of folders inside it."""
    since: str | None = None
    """Only jobs submitted since: 90m, 24h, 7d or 4w ago, or a date such as 2026-11-01, in UTC."""
    until: str | None = None
    """Only jobs submitted until then, in the form of --since."""

    def selection(self) -> Selection:
        """The options as a selection. Raises InvalidPayload where one is invalid."""
        return Selection(
            states=self.state,
            task=self.task,
            tags=self.tag,
            queue=self.queue,
            directory=self.directory,
            since=None if self.since is None else moment(self.since, "--since"),
            until=None if self.until is None else moment(self.until, "--until"),
        )


EVERY_JOB = Where()


def moment(text: str, option: str) -> datetime:
    """Parse a time: a span before now, or a date. Raises InvalidPayload, naming the option."""
    if (before := span(text)) is not None:
        return datetime.now(UTC) - before
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPayload(
            f"{option} {text[:80]!r}: use a span such as 90m, 24h, 7d or 4w, or a date such as "
            "2026-11-01"
        ) from None
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)


def needed_span(text: str, option: str) -> timedelta:
    """Parse a span of time. Raises InvalidPayload, naming the option."""
    if (found := span(text)) is None:
        raise InvalidPayload(f"{option} {text[:80]!r}: use a span such as 90m, 24h, 7d or 4w")
    return found


def span(text: str) -> timedelta | None:
    """Parse a span of time, such as 90m, 24h, 7d or 4w; None where it is none."""
    found = re.fullmatch(r"([1-9][0-9]{0,5})([smhdw])", text)
    return found and timedelta(**{_UNITS[found[2]]: int(found[1])})
