"""The tables of the notifier's books, in the home's own SQLite database."""

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
    """SQLite knows no time zones: everything is UTC there."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and plain(value).astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


class DeliveryState(StrEnum):
    """What became of a delivery."""

    OPEN = "open"
    DELIVERED = "delivered"
    GIVEN_UP = "given up"


class Table(SQLModel):
    """One of these."""

    metadata: ClassVar[MetaData] = MetaData()  # pyright: ignore[reportIncompatibleVariableOverride]  # as SQLAlchemy has it done


class Subscription(Table, table=True):
    """A subscriber, as `prefecture apply` last read it."""

    name: str = Field(primary_key=True)
    spec: str


class JobOutcome(Table, table=True):
    """The end of a job: the first that was seen, unless it was retried after that."""

    job: UUID = Field(primary_key=True)
    flow_run: UUID
    """The attempt that decided it."""
    outcome: str
    payload: str
    """The event, as JSON."""
    ended: datetime = Field(sa_type=_Utc, index=True)
    recorded: datetime = Field(sa_type=_Utc)
    told: bool = Field(default=False, index=True)
    """Whether the server is known to have the event."""

    @property
    def event(self) -> JobEnd:
        """The event that tells of it."""
        return JOB_END.validate_json(self.payload)


class Delivery(Table, table=True):
    """One end that one subscriber is to hear of."""

    job: UUID = Field(primary_key=True)
    subscriber: str = Field(primary_key=True, index=True)
    id: UUID = Field(unique=True)
    """The same at each try: by it a receiver knows what it has had."""
    digest: UUID | None = Field(default=None, index=True)
    """The message that it goes out in with others, where the subscriber has them gathered."""
    state: DeliveryState = Field(default=DeliveryState.OPEN, sa_type=String, index=True)
    created: datetime = Field(sa_type=_Utc)
    attempts: int = 0
    next_try: datetime = Field(sa_type=_Utc, index=True)
    last_error: str | None = None
    delivered_at: datetime | None = Field(default=None, sa_type=_Utc)


class Watermark(Table, table=True):
    """How far the server's flow runs have been read, by one of their times."""

    name: str = Field(primary_key=True)
    at: datetime = Field(sa_type=_Utc)
