"""Filters that select jobs, for lists and for actions on many jobs."""

from collections.abc import Iterator, Mapping
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
    """The state of a job, as users see it."""

    SCHEDULED = "scheduled"
    """Not due yet."""
    WAITING = "waiting"
    """Due and waiting in its queue; or its next attempt is, perhaps after a pause."""
    STARTING = "starting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    CRASHED = "crashed"
    """The latest attempt has crashed, and the next is about to be created."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)
ACTIVE = tuple(state for state in JobState if state not in ENDED)

_RETRIED = timedelta(hours=1)  # the longest time from a crash to the next attempt
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
    """Keyword arguments for the filters of `read_flow_runs`."""

    flow_filter: FlowFilter | None
    flow_run_filter: FlowRunFilter
    work_pool_filter: WorkPoolFilter


@dataclass(frozen=True)
class Selection:
    """Criteria for jobs: each narrows the selection, and no criterion selects all.

    Raises InvalidPayload where a criterion can match nothing.
    """

    states: tuple[JobState, ...] = ()
    """Any of these. None means all but `scheduled`: a schedule has a hundred such jobs planned."""
    task: str | None = None
    tags: tuple[str, ...] = ()
    """All of these."""
    queue: str | None = None
    directory: str | None = None
    """The results directory, or a folder that contains it."""
    since: datetime | None = None
    """Due then or later. A job is due when it is submitted, unless it is scheduled for later."""
    until: datetime | None = None

    def __post_init__(self) -> None:
        """Check the criteria that can be checked without the server."""
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

    def filters(self, **narrower: Any) -> Filters:
        """The filters for the server; `takes` checks the other criteria.

        `narrower`: further fields of FlowRunFilter, which win over those of the selection.
        """
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
            flow_run_filter=FlowRunFilter.model_validate(wanted | narrower),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
        )

    def _not_later(self) -> datetime | None:
        """The latest due time, unless jobs that are scheduled for later are selected."""
        return None if JobState.SCHEDULED in self.states else datetime.now(UTC) + _RETRIED

    def doubtful(self) -> Iterator[Filters]:
        """Filters for the runs that the server selects and `takes` may refuse, helpers apart."""
        states = self.states or tuple(
            state for state in JobState if state is not JobState.SCHEDULED
        )
        if JobState.CRASHED in states:
            yield self.filters(state={"type": {"any_": [StateType.CRASHED]}})
        # The server knows one state for jobs that wait and for jobs that are not due yet.
        if (JobState.WAITING in states) != (JobState.SCHEDULED in states):
            side = "after_" if JobState.WAITING in states else "before_"
            yield self.filters(
                state={"type": {"any_": [StateType.SCHEDULED]}},
                next_scheduled_start_time={side: datetime.now(UTC)},
            )

    def takes(self, run: FlowRun, now: datetime) -> bool:
        """Whether a run from the server is the decisive attempt at a selected job."""
        if not is_job(run):
            return False
        if run.state_type is StateType.CRASHED and REQUEUED_AS_LABEL in run.labels:
            return False  # another attempt has taken its place
        state = state_of(run, now)
        if state not in self.states if self.states else state is JobState.SCHEDULED:
            return False
        wanted = None if self.directory is None else self.directory.strip("/")
        directory = str(run.parameters["results_directory"])
        return wanted is None or directory == wanted or directory.startswith(f"{wanted}/")


def is_job(run: FlowRun) -> bool:
    """Whether a run is an attempt at a job, and not a helper flow."""
    return isinstance(run.parameters.get("results_directory"), str)


def state_of(run: FlowRun, now: datetime) -> JobState:
    """The state of a job, from its decisive attempt. `now`: by a clock like the server's."""
    if run.state_type is StateType.SCHEDULED:
        due = run.next_scheduled_start_time or run.expected_start_time
        later = due is not None and due > now and attempt_number(run.labels) == 1
        return JobState.SCHEDULED if later else JobState.WAITING
    # A paused run holds its slot, like a running one.
    return _BY_TYPE.get(run.state_type or StateType.RUNNING, JobState.RUNNING)
