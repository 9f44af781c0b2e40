"""The filters of Prefect's API for a selection of jobs."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from prefect.client.schemas.filters import (
    FlowFilter,
    FlowRunFilter,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType

from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import JobState
from tasks.contracts import (
    HELD,
    HOLDS,
    REQUEUED_AS_LABEL,
    WAITS_FOR_JOBS,
    Pool,
    attempt_number,
    moves,
)

_RETRIED = timedelta(hours=1)  # the longest time from a crash to the next attempt
_TYPES: Mapping[JobState, StateType] = {
    JobState.SCHEDULED: StateType.SCHEDULED,
    JobState.WAITING: StateType.SCHEDULED,
    JobState.BLOCKED: StateType.PAUSED,
    JobState.HELD: StateType.PAUSED,
    JobState.STARTING: StateType.PENDING,
    JobState.RUNNING: StateType.RUNNING,
    JobState.CANCELLING: StateType.CANCELLING,
    JobState.CRASHED: StateType.CRASHED,
    JobState.COMPLETED: StateType.COMPLETED,
    JobState.FAILED: StateType.FAILED,
    JobState.CANCELLED: StateType.CANCELLED,
}
_BY_TYPE = {type: state for state, type in _TYPES.items()}
_BY_NAME = {WAITS_FOR_JOBS: JobState.BLOCKED, HELD: JobState.HELD}


class Filters(TypedDict):
    """Keyword arguments for the filters of `read_flow_runs`."""

    flow_filter: FlowFilter | None
    flow_run_filter: FlowRunFilter
    work_pool_filter: WorkPoolFilter


def filters_of(selection: Selection, **narrower: Any) -> Filters:
    """The filters for the server; `takes` checks the other criteria.

    `narrower`: further fields of FlowRunFilter, which win over those of the selection.
    """
    wanted: dict[str, Any] = {}
    if selection.states:
        wanted["state"] = {"type": {"any_": sorted({_TYPES[state] for state in selection.states})}}
    if selection.tags:
        wanted["tags"] = {"all_": list(selection.tags)}
    if selection.queue is not None:
        wanted["work_queue_name"] = {"any_": [selection.queue]}
    times = {"after_": selection.since, "before_": selection.until or _not_later(selection)}
    if times := {name: at for name, at in times.items() if at is not None}:
        wanted["expected_start_time"] = times
    flow = None
    if selection.task is not None:
        flow = FlowFilter.model_validate({"name": {"any_": [selection.task]}})
    return Filters(
        flow_filter=flow,
        flow_run_filter=FlowRunFilter.model_validate(wanted | narrower),
        work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
    )


def _not_later(selection: Selection) -> datetime | None:
    """The latest due time, unless jobs that are scheduled for later are selected."""
    return None if JobState.SCHEDULED in selection.states else datetime.now(UTC) + _RETRIED


def doubtful(selection: Selection) -> Iterator[Filters]:
    """Filters for the runs that the server selects and `takes` may refuse, helpers apart."""
    states = selection.states or tuple(
        state for state in JobState if state is not JobState.SCHEDULED
    )
    if JobState.CRASHED in states:
        yield filters_of(selection, state={"type": {"any_": [StateType.CRASHED]}})
    # The server knows one state for jobs that wait and for jobs that are not due yet.
    if (JobState.WAITING in states) != (JobState.SCHEDULED in states):
        side = "after_" if JobState.WAITING in states else "before_"
        yield filters_of(
            selection,
            state={"type": {"any_": [StateType.SCHEDULED]}},
            next_scheduled_start_time={side: datetime.now(UTC)},
        )
    if (JobState.BLOCKED in states) != (JobState.HELD in states):
        yield filters_of(selection, state={"type": {"any_": [StateType.PAUSED]}})


def takes(selection: Selection, run: FlowRun, now: datetime) -> bool:
    """Whether a run from the server is the decisive attempt at a selected job."""
    if not is_job(run):
        return False
    if run.state_type is StateType.CRASHED and REQUEUED_AS_LABEL in run.labels:
        return False  # another attempt has taken its place
    state = state_of(run, now)
    if state not in selection.states if selection.states else state is JobState.SCHEDULED:
        return False
    wanted = None if selection.directory is None else selection.directory.strip("/")
    directory = str(run.parameters["results_directory"])
    return wanted is None or directory == wanted or directory.startswith(f"{wanted}/")


def is_job(run: FlowRun) -> bool:
    """Whether a run is an attempt at a job, and not a helper flow."""
    return isinstance(run.parameters.get("results_directory"), str)


def is_in_pool_of_jobs(run: FlowRun) -> bool:
    """Whether a run is in one of the pools of jobs."""
    return run.work_pool_name in set(Pool)


def state_of(run: FlowRun, now: datetime) -> JobState:
    """The state of a job, from its decisive attempt. `now`: by a clock like the server's."""
    if run.state_type is StateType.SCHEDULED:
        due = run.next_scheduled_start_time or run.expected_start_time
        is_first = attempt_number(run.labels) - moves(run.labels) == 1
        later = due is not None and due > now and is_first
        return JobState.SCHEDULED if later else JobState.WAITING
    if run.state_type is StateType.PAUSED:
        # By its own code it keeps its slot, like a running one.
        return _BY_NAME.get(run.state_name or "", JobState.RUNNING)
    if run.state_type is StateType.PENDING and run.state and run.state.message == HOLDS:
        return JobState.HELD
    return _BY_TYPE.get(run.state_type or StateType.RUNNING, JobState.RUNNING)
