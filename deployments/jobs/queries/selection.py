"""Which jobs are meant: the same filters for a list, and for what is done with many at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType

from deployments.jobs.request import check_queue
from tasks.contracts import REQUEUED_AS_LABEL, Pool, attempt_number
from tasks.errors import InvalidPayload


class JobState(StrEnum):
    """What a job is at, for those who use it."""

    SCHEDULED = "scheduled"
    """It is not due yet."""
    WAITING = "waiting"
    """It is due, and waits in its queue; or its next attempt does, perhaps after a pause."""
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CRASHED = "crashed"
    """Its attempt has crashed, and the next is about to be made."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
ACTIVE = tuple(state for state in JobState if state not in ENDED)

_RETRIED = timedelta(hours=1)  # after the crash, at the latest, an attempt is due
_TYPES: Mapping[JobState, StateType] = {
    JobState.SCHEDULED: StateType.SCHEDULED,
    JobState.WAITING: StateType.SCHEDULED,
    JobState.STARTING: StateType.PENDING,
    JobState.RUNNING: StateType.RUNNING,
    JobState.CANCELLING: StateType.CANCELLING,
    JobState.CRASHED: StateType.CRASHED,
    JobState.COMPLETED: StateType.COMPLETED,
    JobState.FAILED: StateType.FAILED,
    JobState.CANCELLED: StateType.CANCELLED,
}
_BY_TYPE = {type: state for state, type in _TYPES.items()}


class Filters(TypedDict):
    """What the client is asked with."""

    flow_filter: FlowFilter | None
    flow_run_filter: FlowRunFilter
    work_pool_filter: WorkPoolFilter


@dataclass(frozen=True)
class Selection:
    """Jobs by what is known of them; each criterion narrows the choice, and none means all.

    Raises InvalidPayload where a criterion can match nothing.
    """

    states: tuple[JobState, ...] = ()
    """Any of these. None means all but `scheduled`: a schedule has a hundred such jobs planned."""
    task: str | None = None
    tags: tuple[str, ...] = ()
    """All of these."""
    queue: str | None = None
    directory: str | None = None
    """The results directory, or one that it lies in."""
    since: datetime | None = None
    """Due then or later: when it was submitted, unless it was for a later time."""
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Check what can be checked without the server."""
        if self.queue is not None:
            check_queue(self.queue)
        if any(not tag.strip() for tag in self.tags):
            raise InvalidPayload("tag: it is empty: name one, or leave it out")
        if self.directory is not None and not self.directory.strip("/"):
            raise InvalidPayload("directory: it is empty: name one, or leave it out")
        if self.since is not None and self.until is not None and self.since > self.until:
            raise InvalidPayload(
                f"no time is after {self.since:%F %T} and before {self.until:%F %T}: exchange them"
            )

    @property
    def is_everything(self) -> bool:
        """Whether no criterion was given."""
        return self == Selection()

    def filters(self) -> Filters:
        """What the server can choose by; `takes` has the rest."""
        wanted: dict[str, Any] = {}
        if self.states:
            wanted["state"] = {"type": {"any_": sorted({_TYPES[state] for state in self.states})}}
        if self.tags:
            wanted["tags"] = {"all_": list(self.tags)}
        if self.queue is not None:
            wanted["work_queue_name"] = {"any_": [self.queue]}
        times = {"after_": self.since, "before_": self.until or self._not_later()}
        if times := {name: at for name, at in times.items() if at is not None}:
            wanted["expected_start_time"] = times
        flow = None
        if self.task is not None:
            flow = FlowFilter.model_validate({"name": {"any_": [self.task]}})
        return Filters(
            flow_filter=flow,
            flow_run_filter=FlowRunFilter.model_validate(wanted),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        )

    def _not_later(self) -> datetime | None:
        """When a job is due at the latest, where none that is planned for later is wanted."""
        return None if JobState.SCHEDULED in self.states else datetime.now(UTC) + _RETRIED

    def takes(self, run: FlowRun, now: datetime) -> bool:
        """Whether a run that the server chose is meant, and says how its job stands."""
        directory = run.parameters.get("results_directory")
        if not isinstance(directory, str):
            return False  # a run that helps a job
        if run.state_type is StateType.CRASHED and REQUEUED_AS_LABEL in run.labels:
            return False  # another attempt has taken its place
        state = state_of(run, now)
        if state not in self.states if self.states else state is JobState.SCHEDULED:
            return False
        wanted = None if self.directory is None else self.directory.strip("/")
        return wanted is None or directory == wanted or directory.startswith(f"{wanted}/")


def state_of(run: FlowRun, now: datetime) -> JobState:
    """What a job is at, by its decisive attempt; `now` by a clock like the server's."""
    if run.state_type is StateType.SCHEDULED:
        due = run.next_scheduled_start_time or run.expected_start_time
        later = due is not None and due > now and attempt_number(run.labels) == 1
        return JobState.SCHEDULED if later else JobState.WAITING
    # A run that somebody paused holds its slot, as one that runs does.
    return _BY_TYPE.get(run.state_type or StateType.RUNNING, JobState.RUNNING)
