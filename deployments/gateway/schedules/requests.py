"""What users send about schedules, and what is answered."""

import json
import re
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID, uuid4

from pydantic import BaseModel, Field

from deployments.gateway.requests import JobFields
from deployments.gateway.schedules.cron import next_times
from deployments.gateway.schedules.kept import SCHEDULE_TAG, Failure, Schedule, Work
from deployments.gateway.users.tokens import Token
from deployments.jobs.records import JobRecord
from deployments.jobs.request import cut
from tasks.contracts import Queue
from tasks.errors import InvalidPayload

MOST_BYTES = 65_536
"""Of a schedule's payload, as JSON."""
_SHOWN = 3  # due times
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class ScheduleRequest(JobFields):
    """A job to submit again and again."""

    payload: dict[str, Any] = Field(description="The task's parameters: see GET /v1/tasks.")
    name: str | None = Field(
        None,
        description="The schedule's name, and that of its jobs, such as nightly-primes. Default: "
        "the task's name and six characters.",
    )
    cron: str = Field(
        description="Minute, hour, day of the month, month and weekday: `30 2 * * *` is half past "
        "two each night."
    )
    timezone: str = Field(
        "UTC", description="The time zone of the cron line, such as Europe/Berlin."
    )

    def schedule(self, token: Token) -> Schedule:
        """The schedule of a user. Raises InvalidPayload where a field is invalid."""
        name = self.name or f"{self.task}-{uuid4().hex[:6]}"
        if not _NAME.fullmatch(name):
            raise InvalidPayload(
                f"name: {cut(name)!r} is no name for a schedule: use up to 63 lower-case letters, "
                "digits, - and _, such as nightly-primes"
            )
        if "start" in self.payload:
            raise InvalidPayload(
                "payload.start: the cron line says when the jobs start: leave it out"
            )
        try:
            size = len(json.dumps(self.payload))
        except (ValueError, RecursionError) as error:
            raise InvalidPayload(f"the payload is not JSON: {error}") from error
        if size > MOST_BYTES:
            raise InvalidPayload(
                f"payload: it has {size:,} bytes, and {MOST_BYTES:,} may be in a schedule"
            )
        fields = self.model_dump(exclude={"cron", "timezone"}, exclude_unset=True)
        others = [tag for tag in self.tags if not tag.startswith(SCHEDULE_TAG)]
        own = {"name": name, "tags": [*others, f"{SCHEDULE_TAG}{name}"]}
        now = datetime.now(UTC)
        return Schedule(
            id=uuid4(),
            user=token.user,
            token=token.id,
            name=name,
            work=Work.model_validate(fields | own),
            cron=" ".join(self.cron.split()),
            timezone=self.timezone,
            created=now,
            done=now,
        )


class ScheduleRecord(BaseModel):
    """A schedule."""

    schedule: UUID
    """Its id."""
    name: str
    user: str
    task: str
    queue: Queue
    results_directory: str
    cron: str
    timezone: str
    active: bool
    """Whether it is not paused."""
    created: datetime
    next: list[datetime]
    """The next three times, in UTC; none while it is paused."""
    last_error: Failure | None
    """Why the last due time had no job; null where it had."""

    @classmethod
    async def of(cls, schedule: Schedule, **more: Any) -> Self:
        """Describe a schedule."""
        times: list[datetime] = []
        if schedule.active:
            now = datetime.now(UTC)
            times = await next_times(schedule.cron, schedule.timezone, now, _SHOWN)
        return cls(
            schedule=schedule.id,
            name=schedule.name,
            user=schedule.user,
            task=schedule.work.task,
            queue=schedule.work.queue,
            results_directory=schedule.work.results_directory,
            cron=schedule.cron,
            timezone=schedule.timezone,
            active=schedule.active,
            created=schedule.created,
            next=times,
            last_error=schedule.failure,
            **more,
        )


class ScheduleDetails(ScheduleRecord):
    """A schedule, with its job and the last ones that it has submitted."""

    job: Work
    """The fields of each job's submission."""
    last_jobs: list[JobRecord]
    """The newest first."""
