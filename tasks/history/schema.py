"""The tables of the run history. Times are UTC without a time zone, durations are seconds.

Every text has a length, since MySQL wants one; ids are text, so that SQL of one's own reads the
same in every database.
"""

from datetime import UTC, datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Double,
    MetaData,
    Text,
    TypeDecorator,
)
from sqlalchemy import Table as Columns
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT
from sqlalchemy.types import TypeEngine
from sqlmodel import Field, SQLModel

from tasks.contracts import plain

SCHEMAS = ("0001",)
"""The schemas that this code knows, one for each migration: the last is the one it works with."""
ALL = "all"
"""In the place of a task's name: every task together."""
EVER = "ever"
"""The period that holds everything, whose start is 1970."""

_ID = 36
_NAME = 128
_CAUSE = 1000


class Utc(TypeDecorator[datetime]):
    """UTC, stored without a zone; in microseconds in every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # MySQL keeps whole seconds only, unless told.
        mysql = dialect.name in ("mysql", "mariadb")
        return dialect.type_descriptor(DATETIME(fsp=6) if mysql else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and plain(value).astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


_Long = Text().with_variant(LONGTEXT(), "mysql", "mariadb")


class Table(SQLModel):
    """One of these."""

    metadata: ClassVar[MetaData] = MetaData()  # pyright: ignore[reportIncompatibleVariableOverride]  # as SQLAlchemy has it done


class Attempt(Table, table=True):
    """One flow run of a job."""

    flow_run: str = Field(primary_key=True, max_length=_ID)
    job: str = Field(index=True, max_length=_ID)
    number: int
    """1 for the first attempt at its job."""
    task: str = Field(max_length=_NAME)
    name: str = Field(max_length=_NAME)
    """Prefect's, or the user's own."""
    queue: str = Field(max_length=_NAME)
    pool: str = Field(max_length=_NAME)
    worker: str | None = Field(default=None, max_length=_NAME)
    host: str | None = Field(default=None, max_length=_NAME)
    """Where it ran, where its worker or its body says so."""
    state: str = Field(index=True, max_length=16)
    """Prefect's type of state, such as COMPLETED; DELETED where it was deleted before its end."""
    cause: str | None = Field(default=None, max_length=_CAUSE)
    """Why it did not complete, in one line."""
    submitted: datetime = Field(sa_type=Utc, index=True)
    due: datetime = Field(sa_type=Utc)
    started: datetime | None = Field(default=None, sa_type=Utc, index=True)
    ended: datetime | None = Field(default=None, sa_type=Utc, index=True)
    starts: int = 0
    """How often it was started: more than once where its worker was stopped in an orderly way."""
    waited: float | None = Field(default=None, sa_type=Double)
    """Seconds from due to the first start."""
    ran: float | None = Field(default=None, sa_type=Double)
    """Seconds it ran, all starts together; none for one that never started, or has not ended."""
    published_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Of the result, where this attempt published it."""
    updated: datetime = Field(sa_type=Utc)
    """When the server last changed it: of two reader the later one counts."""
    checked: datetime = Field(sa_type=Utc)
    """When the server was last asked for it."""
    job_attempts: int | None = None
    """Where this attempt decided what became of its job: how many attempts that took."""
    job_starts: int | None = None
    """The same: how many starts."""


class Job(Table, table=True):
    """One accepted request, from its first submission to its end."""

    job: str = Field(primary_key=True, max_length=_ID)
    task: str = Field(max_length=_NAME)
    name: str = Field(max_length=_NAME)
    queue: str = Field(max_length=_NAME)
    """The queue that it was submitted to."""
    outcome: str = Field(index=True, max_length=16)
    """completed, failed, cancelled, deleted; open while it is none of these."""
    submitted: datetime = Field(sa_type=Utc, index=True)
    started: datetime | None = Field(default=None, sa_type=Utc)
    ended: datetime | None = Field(default=None, sa_type=Utc, index=True)
    attempts: int
    starts: int
    waited: float | None = Field(default=None, sa_type=Double)
    """Seconds from due to the first start."""
    ran: float = Field(sa_type=Double)
    """Seconds that all its attempts ran."""
    published_bytes: int | None = Field(default=None, sa_type=BigInteger)


class Throughput(Table, table=True):
    """What happened in a period. A row stands only where something did."""

    period: str = Field(primary_key=True, max_length=8)
    """minute, hour, day, week (from Monday) or month."""
    start: datetime = Field(primary_key=True, sa_type=Utc)
    task: str = Field(primary_key=True, max_length=_NAME)
    queue: str = Field(primary_key=True, max_length=_NAME)
    """Of the attempt: one that follows a crash is in `high`."""
    received: int = 0
    """Jobs submitted."""
    started: int = 0
    """Attempts that started."""
    completed: int = 0
    """Jobs that completed."""
    failed: int = 0
    """Jobs that failed for good."""
    crashed: int = 0
    """Attempts that crashed."""
    cancelled: int = 0
    """Jobs that were cancelled."""
    ran: int = 0
    """Attempts that ended and had run: those that the ran_ columns are about."""
    published_bytes: int = Field(default=0, sa_type=BigInteger)
    waited_total: float = Field(default=0.0, sa_type=Double)
    """Seconds that the attempts which started had waited."""
    waited_mean: float | None = Field(default=None, sa_type=Double)
    waited_p50: float | None = Field(default=None, sa_type=Double)
    waited_p95: float | None = Field(default=None, sa_type=Double)
    waited_p99: float | None = Field(default=None, sa_type=Double)
    ran_total: float = Field(default=0.0, sa_type=Double)
    """Seconds that the attempts which ended had run."""
    ran_mean: float | None = Field(default=None, sa_type=Double)
    ran_p50: float | None = Field(default=None, sa_type=Double)
    ran_p95: float | None = Field(default=None, sa_type=Double)
    ran_p99: float | None = Field(default=None, sa_type=Double)
    waited_spread: str = Field(default="", sa_type=_Long)  # pyright: ignore[reportArgumentType]
    """How the values spread, as bucket:count: what longer periods are made of."""
    ran_spread: str = Field(default="", sa_type=_Long)  # pyright: ignore[reportArgumentType]


class AttemptsPerTask(Table, table=True):
    """How many attempts and starts the jobs took that ended in a period."""

    __tablename__ = "attempts_per_task"  # pyright: ignore[reportAssignmentType]

    period: str = Field(primary_key=True, max_length=8)
    """hour, day, week, month or ever."""
    start: datetime = Field(primary_key=True, sa_type=Utc)
    task: str = Field(primary_key=True, max_length=_NAME)
    """`all` for every task together."""
    jobs: int
    attempts: int
    starts: int
    average_starts: float = Field(sa_type=Double)
    """Starts of a job."""


class Backlog(Table, table=True):
    """What waited and what ran at one moment."""

    taken: datetime = Field(primary_key=True, sa_type=Utc)
    queue: str = Field(primary_key=True, max_length=_NAME)
    pending: int
    """Attempts that wait."""
    running: int
    """Attempts that a worker holds."""
    oldest_wait: float = Field(sa_type=Double)
    """Seconds that the one which is due longest has waited; 0 where none is due."""


class Watermark(Table, table=True):
    """How far something has come."""

    name: str = Field(primary_key=True, max_length=64)
    at: datetime = Field(sa_type=Utc)


def columns(table: type[Table]) -> Columns:
    """A table as SQLAlchemy has it."""
    made: Columns = getattr(table, "__table__")  # noqa: B009  # SQLModel does not declare it
    return made
