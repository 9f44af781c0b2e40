"""Places in a list of flow runs, where it goes on though new runs were added at its top."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilterExpectedStartTime,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun

from deployments.jobs.queries.filters import Filters
from deployments.jobs.request import cut
from tasks.contracts import plain
from tasks.errors import InvalidPayload

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME, _ID = 8, 16  # bytes in the text of a place


@dataclass(frozen=True)
class Place:
    """How far a list is read that is sorted by due time, in either direction."""

    due: datetime | None = None
    """Of the last run; None: nothing is read."""
    runs: frozenset[UUID] = frozenset()
    """Those of the runs due then that are read."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a place; an empty one is the top. Raises InvalidPayload."""
        if not text:
            return cls()
        try:
            read = urlsafe_b64decode(text.encode("ascii"))
            due = _EPOCH + int.from_bytes(read[:_TIME]) * _MICROSECOND
            starts = range(_TIME, len(read), _ID)
            return cls(due, frozenset(UUID(bytes=read[at : at + _ID]) for at in starts))
        except (ValueError, OverflowError, binascii.Error):
            raise InvalidPayload(f"after: {cut(text)!r} is no `next` of a list of jobs") from None

    def __str__(self) -> str:
        """The place as text, in ASCII."""
        if self.due is None:
            return ""
        number = (self.due - _EPOCH) // _MICROSECOND
        ids = b"".join(sorted(run.bytes for run in self.runs))
        return urlsafe_b64encode(number.to_bytes(_TIME) + ids).decode()

    def reached(self, run: FlowRun) -> "Place":
        """The place after a run."""
        if run.expected_start_time is None:
            return self
        due = plain(run.expected_start_time)
        return Place(due, (self.runs if due == self.due else frozenset[UUID]()) | {run.id})

    def is_beyond(self, run: FlowRun, *, oldest_first: bool = False) -> bool:
        """Whether a run follows."""
        if self.due is None or run.expected_start_time is None or run.id in self.runs:
            return run.id not in self.runs
        due = plain(run.expected_start_time)
        return due >= self.due if oldest_first else due <= self.due

    def beyond(self, filters: Filters, *, oldest_first: bool = False) -> Filters:
        """The filters, narrowed to the runs that follow."""
        wanted = filters["flow_run_filter"]
        if self.due is None:
            return filters
        times = wanted.expected_start_time or FlowRunFilterExpectedStartTime()
        if oldest_first:
            bound = {"after_": max(self.due, times.after_ or self.due)}
        else:
            bound = {"before_": min(self.due, times.before_ or self.due)}
        narrower = {
            "expected_start_time": times.model_copy(update=bound),
            "id": FlowRunFilterId(not_any_=[*self.runs]),
        }
        return {**filters, "flow_run_filter": wanted.model_copy(update=narrower)}


TOP = Place()
"""Where a list begins."""
