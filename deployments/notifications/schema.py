"""The tables of the notification database."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import DateTime, Dialect, MetaData, String, TypeDecorator
from sqlmodel import Field, SQLModel

from tasks.contracts import plain
from tasks.runtime.events import Ended, JobCancelled, JobCompleted, JobFailed

JobEnd = JobCompleted | JobFailed | JobCancelled
JOB_END = TypeAdapter[JobEnd](Ended)


class _Utc(TypeDecorator[datetime]):
    """Aware datetimes, stored as UTC: SQLite has no time zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and plain(value).astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


class DeliveryState(StrEnum):
    """The state of a delivery."""

    OPEN = "open"
    DELIVERED = "delivered"
    GIVEN_UP = "given up"


class Table(SQLModel):
    """Base of the tables, with metadata apart from other SQLModel tables."""

    metadata: ClassVar[MetaData] = MetaData()  # pyright: ignore[reportIncompatibleVariableOverride]  # as in SQLModel's own base


class Subscription(Table, table=True):
    """A subscriber, as last registered by `prefecture apply`."""

    name: str = Field(primary_key=True)
    spec: str


class JobOutcome(Table, table=True):
    """The final state of a job: the first one seen, or that of the last retry in the UI."""

    job: UUID = Field(primary_key=True)
    flow_run: UUID
    """The attempt that decided the final state."""
    outcome: str
    payload: str
    """The final event, as JSON."""
    ended: datetime = Field(sa_type=_Utc, index=True)
    recorded: datetime = Field(sa_type=_Utc)
    announced: bool = Field(default=False, index=True, sa_column_kwargs={"name": "told"})
    """Whether the server has confirmed the event."""

    @property
    def event(self) -> JobEnd:
        """The final event."""
        return JOB_END.validate_json(self.payload)


class Delivery(Table, table=True):
    """The delivery of one final event to one subscriber."""

    job: UUID = Field(primary_key=True)
    subscriber: str = Field(primary_key=True, index=True)
    id: UUID = Field(unique=True)
    """The same at each try: receivers deduplicate by it."""
    digest: UUID | None = Field(default=None, index=True)
    """The message that holds this delivery and others, for a subscriber with `every`."""
    state: DeliveryState = Field(default=DeliveryState.OPEN, sa_type=String, index=True)
    created: datetime = Field(sa_type=_Utc)
    attempts: int = 0
    next_try: datetime = Field(sa_type=_Utc, index=True)
    last_error: str | None = None
    delivered_at: datetime | None = Field(default=None, sa_type=_Utc)


class Watermark(Table, table=True):
    """The time up to which the flow runs of the server have been read, for one time field."""

    name: str = Field(primary_key=True)
    at: datetime = Field(sa_type=_Utc)
