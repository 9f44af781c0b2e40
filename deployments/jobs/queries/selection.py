"""Criteria that select jobs, for lists and for actions on many jobs."""

from dataclasses import dataclass
from datetime import datetime

from deployments.jobs.records import JobState
from deployments.jobs.request import check_queue
from tasks.errors import InvalidPayload


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
