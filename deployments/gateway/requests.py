"""What users send to the gateway, and what it answers."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from deployments.gateway.users.tokens import Scope, Token
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import JobState
from deployments.jobs.request import Terms, cut
from tasks.contracts import USER_TAG, Queue
from tasks.errors import InvalidPayload

MOST_PAYLOADS = 10_000
"""Jobs in one request."""
LONGEST_KEY = 120
"""Characters of a key."""
MOST_LISTED = 1_000
"""Jobs in one answer."""
MOST_NAMED = 100
"""Jobs by their ids in one request."""
LONGEST_NEXT = 100_000
"""Characters of `next`, which has the ids of all jobs with the same time of submission."""


class JobFields(BaseModel):
    """What a user says of a job, apart from its payload."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(description="A compute task, such as compress-images.")
    results_directory: str = Field(description="The name under which the result is published.")
    queue: Queue = Field(Queue.NORMAL, description="high, normal or low.")
    name: str | None = Field(None, description="The job's name in the UI.")
    tags: list[str] = Field([], description="The tag `user:<name>` is added.")
    max_duration: int | None = Field(None, description="Seconds one attempt may run.")
    memory: str | None = Field(
        None, description="Memory of a job's container: a number and k, m or g."
    )
    expires: int | None = Field(
        None, description="Seconds, a minute at least, after which the result may be removed."
    )
    gpus: int | None = Field(None, description="GPUs that a job has for itself.")
    host_labels: list[str] = Field([], description="Labels that the host of a job must have.")

    def terms(self, token: Token) -> Terms:
        """The request for jobs of a user. Raises InvalidPayload where a field is invalid."""
        return self._terms([token.tag], [], after_ended=False)

    def _terms(self, own: Iterable[str], after: Iterable[str], *, after_ended: bool) -> Terms:
        """The request for jobs that have these tags too, and wait for these jobs."""
        for tag in self.tags:
            if tag.startswith(USER_TAG):
                raise InvalidPayload(
                    f"tags: {cut(tag)!r} is set by the gateway: leave out what begins with "
                    f"{USER_TAG!r}"
                )
        return Terms(
            self.task,
            self.results_directory,
            self.queue if "queue" in self.model_fields_set else None,
            (*self.tags, *own),
            self.max_duration,
            self.memory,
            self.name,
            after,
            after_ended,
            self.expires,
            self.gpus,
            self.host_labels,
        )


class _Terms(JobFields):
    """What is the same for all jobs of a request."""

    key: str | None = Field(
        None,
        max_length=LONGEST_KEY,
        description="Your own name for this request: the same request with the same key is the "
        "same job.",
    )
    after: list[str] = Field(
        [], description="Jobs that must complete before it starts: their ids, or your keys."
    )
    after_ended: bool = Field(
        False, description="Whether it is enough that they end, in whatever way."
    )

    def terms(self, token: Token) -> Terms:
        """The request for jobs of a user. Raises InvalidPayload where a field is invalid."""
        return self._terms([token.tag], self.after, after_ended=self.after_ended)


class JobRequest(_Terms):
    """A job to submit."""

    payload: dict[str, Any] = Field(description="The task's parameters: see GET /v1/tasks.")


class JobsRequest(_Terms):
    """Jobs to submit, which differ in their payloads only."""

    payloads: list[dict[str, Any]] = Field(
        min_length=1, max_length=MOST_PAYLOADS, description="The jobs are served in this order."
    )


class Where(BaseModel):
    """Which jobs are meant: each criterion narrows the choice."""

    model_config = ConfigDict(extra="forbid")

    state: list[JobState] = Field([], description="Any of these. Default: all but `scheduled`.")
    task: str | None = Field(None, description="The compute task.")
    tag: list[str] = Field([], description="All of these.")
    user: str | None = Field(None, description="The user whose jobs they are.")
    queue: Queue | None = Field(None, description="high, normal or low.")
    directory: str | None = Field(
        None, description="The results directory, or a folder that contains it."
    )
    since: datetime | None = Field(
        None, description="Submitted then or later: ISO 8601; UTC where it names no zone."
    )
    until: datetime | None = Field(None, description="Submitted then or before.")

    def selection(self, *tags: str) -> Selection:
        """The selection of jobs, which have these tags too. Raises InvalidPayload."""
        of_user = () if self.user is None else (f"{USER_TAG}{self.user}",)
        return Selection(
            tuple(self.state),
            self.task,
            tuple(dict.fromkeys((*self.tag, *of_user, *tags))),
            self.queue,
            self.directory,
            _in_utc("since", self.since),
            _in_utc("until", self.until),
        )


def _in_utc(name: str, at: datetime | None) -> datetime | None:
    """A time in UTC, where it may be in the year 0 or 10000. Raises InvalidPayload there."""
    try:
        return at and (at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC))
    except OverflowError:
        raise InvalidPayload(f"{name}: {at} is out of the range of times in UTC") from None


class ManyRequest(Where):
    """Jobs on which to act, and the number that was agreed to."""

    jobs: list[UUID] = Field(
        [], max_length=MOST_NAMED, description="Ids of jobs, in place of criteria: at most 100."
    )
    confirm: int | None = Field(
        None, ge=0, description="The `count` of an answer without it, to act on the jobs."
    )
    next: str = Field(
        "",
        max_length=LONGEST_NEXT,
        description="The `next` of an answer that has not reached all jobs, to go on with the "
        "rest. All other fields stay the same.",
    )


class MoveRequest(BaseModel):
    """Where to move a job."""

    model_config = ConfigDict(extra="forbid")

    queue: Queue = Field(description="The other queue: high, normal or low.")


class MoveManyRequest(ManyRequest):
    """Jobs to move, and where to."""

    to: Queue = Field(description="The other queue: high, normal or low.")


class Many(BaseModel):
    """The jobs to act on, or what an action has done."""

    count: int
    """How many jobs these are."""
    kinds: list[str]
    """How many of each task, state and queue; after an action, of those that it has reached."""
    done: bool
    """Whether all of them were reached."""
    acted: int = 0
    """How many this request has reached."""
    next: str | None = None
    """Where to go on: the `next` of the next request. None once all were reached."""
    jobs: list[UUID] = []
    """For a restart: the new jobs."""
    refused: list[str] = []
    """For each job for which it could not be done: the reason."""


class ListWhere(Where):
    """Which jobs to list."""

    limit: int = Field(100, ge=1, le=MOST_LISTED, description="How many at most, up to 1,000.")
    after: str = Field("", description="The `next` of an earlier answer: the jobs that follow it.")
    total: bool = Field(True, description="Whether to count all jobs, which takes longest.")


WhereQuery = Annotated[ListWhere, Query()]
"""The criteria, as parameters of a query."""


class Submitted(BaseModel):
    """A job that was accepted."""

    job: UUID


class SubmittedMany(BaseModel):
    """Jobs that were accepted, in the order of their payloads."""

    jobs: list[UUID]


class Message(BaseModel):
    """What was done."""

    message: str


class Me(BaseModel):
    """The user of a token, and what the token allows."""

    user: str
    scopes: list[Scope]
    expires: datetime | None
    secrets: list[str]
    """The Secret blocks that jobs may have."""

    @classmethod
    def of(cls, token: Token) -> Self:
        """Describe a token without its secret."""
        return cls(
            user=token.user,
            scopes=list(token.scopes),
            expires=token.expires,
            secrets=list(token.secrets),
        )
