"""A change of a job, as the gateway tells its clients of it. Nothing here imports Prefect."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from deployments.jobs.records import JobState, Outcome


class JobChange(BaseModel, frozen=True):
    """A job after a change: its latest attempt."""

    job: UUID
    task: str
    name: str
    results_directory: str
    queue: str
    tags: tuple[str, ...]
    state: JobState
    attempt: int
    fraction: float
    """Share of the work that is done, 0 to 1."""
    text: str
    """What the job does; or why it, or this attempt, has ended."""
    at: datetime
    """When the change happened."""
    ended: datetime | None
    outcome: Outcome | None
    """None until the state is final. `failed` and `cancelled` are so after some seconds: until
    then the supervisor may find that the result is published."""
