"""Makes the changes of jobs, which the gateway sends, from flow runs."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from deployments.jobs.attempts import OUTCOMES
from deployments.jobs.changes import JobChange
from deployments.jobs.queries.filters import is_in_pool_of_jobs, is_job, state_of
from deployments.jobs.records import ENDED, SETTLED, JobState
from tasks.contracts import attempt_number, job_id, plain

_QUIET = (
    *(JobState.SCHEDULED, JobState.WAITING, JobState.BLOCKED, JobState.HELD),
    JobState.STARTING,
)
_EXPLAINED = (JobState.BLOCKED, JobState.FAILED, JobState.CANCELLED, JobState.CRASHED)
_TOLD_BY_EVENT = {
    StateType.PENDING: JobState.STARTING,
    StateType.RUNNING: JobState.RUNNING,
    StateType.CANCELLING: JobState.CANCELLING,
}


@dataclass(frozen=True)
class Attempt:
    """What never changes of a flow run that is an attempt at a job."""

    run: UUID
    job: UUID
    task: str
    name: str
    results_directory: str
    queue: str
    tags: tuple[str, ...]
    number: int

    @classmethod
    def of(cls, run: FlowRun, task: str) -> Self | None:
        """The attempt that a flow run is. None where it is something else."""
        if not is_job(run) or not is_in_pool_of_jobs(run):
            return None
        return cls(
            run.id,
            job_id(run.labels, run.id),
            task,
            run.name,
            str(run.parameters["results_directory"]),
            run.work_queue_name or "",
            tuple(sorted(run.tags)),
            attempt_number(run.labels),
        )


@dataclass(frozen=True)
class Moved:
    """A state of an attempt."""

    type: StateType
    state: JobState
    at: datetime
    """When the attempt entered it, by the server's clock."""
    message: str

    @classmethod
    def of(cls, run: FlowRun, now: datetime) -> Self | None:
        """The state of a flow run. None where it has none."""
        if run.state is None:
            return None
        message = " ".join((run.state.message or "").split())
        return cls(run.state.type, state_of(run, now), plain(run.state.timestamp), message)

    @classmethod
    def by_event(cls, type: StateType, at: datetime) -> Self | None:
        """The state that an event of Prefect names.

        None where the flow run must be read: it may be due later; or it has ended, of which the
        server tells some milliseconds before its answers show it.
        """
        state = _TOLD_BY_EVENT.get(type)
        return None if state is None else cls(type, state, at, "")

    def is_settled(self, now: datetime) -> bool:
        """Whether the state is final and can no longer change."""
        if self.type is StateType.COMPLETED:
            return True
        return self.type in OUTCOMES and now - self.at > timedelta(seconds=SETTLED)

    def change(self, attempt: Attempt, before: JobChange | None, now: datetime) -> JobChange:
        """The change of a job. `before`: the last one of it that is known."""
        # A bar goes on while the attempt runs, and stays where it was when that ends.
        goes_on = before is not None and before.attempt == attempt.number
        bar = before if goes_on and self.state not in _QUIET else None
        fraction, text = (bar.fraction, bar.text) if bar else (0.0, "")
        if self.state is JobState.COMPLETED:
            fraction, text = 1.0, ""
        ended = self.state in ENDED
        return JobChange(
            job=attempt.job,
            task=attempt.task,
            name=attempt.name,
            results_directory=attempt.results_directory,
            queue=attempt.queue,
            tags=attempt.tags,
            state=self.state,
            attempt=attempt.number,
            fraction=fraction,
            text=self.message if self.state in _EXPLAINED else text,
            at=self.at,
            ended=self.at if ended else None,
            outcome=OUTCOMES.get(self.type) if self.is_settled(now) else None,
        )
