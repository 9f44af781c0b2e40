"""The tables of the run history. Times are UTC without a time zone, durations are seconds.

Every text has a length, which MySQL requires; ids are text, so that a query is the same in every
database.
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
"""The schemas that this code knows, one for each migration; it works with the last."""
ALL = "all"
"""Value of the column `task` for all tasks together."""
EVER = "ever"
"""The period that contains all time; its start is 1970."""

_ID = 36
_NAME = 128
_CAUSE = 1000


class Utc(TypeDecorator[datetime]):
    """A time in UTC, stored without a zone, with microseconds in every database."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        # MySQL stores whole seconds by default.
        mysql = dialect.name in ("mysql", "mariadb")
        return dialect.type_descriptor(DATETIME(fsp=6) if mysql else DateTime())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and plain(value).astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


_Long = Text().with_variant(LONGTEXT(), "mysql", "mariadb")


class Table(SQLModel):
    """Base of the tables of the run history."""

    metadata: ClassVar[MetaData] = MetaData()  # pyright: ignore[reportIncompatibleVariableOverride]  # as SQLAlchemy documents it


class Attempt(Table, table=True):
    """One flow run of a job."""

    flow_run: str = Field(primary_key=True, max_length=_ID)
    job: str = Field(index=True, max_length=_ID)
    number: int
    """1 for the first attempt at its job."""
    task: str = Field(max_length=_NAME)
    name: str = Field(max_length=_NAME)
    """Name of the flow run: made by Prefect, or chosen by the user."""
    queue: str = Field(max_length=_NAME)
    pool: str = Field(max_length=_NAME)
    worker: str | None = Field(default=None, max_length=_NAME)
    host: str | None = Field(default=None, max_length=_NAME)
    """The host that it ran on, where its process or its worker names one."""
    state: str = Field(index=True, max_length=16)
    """Prefect's state type, such as COMPLETED; DELETED where it was deleted before its end, MOVED
    where its job was moved to another queue or host."""
    cause: str | None = Field(default=None, max_length=_CAUSE)
    """Why it did not complete, in one line."""
    submitted: datetime = Field(sa_type=Utc, index=True)
    due: datetime = Field(sa_type=Utc)
    started: datetime | None = Field(default=None, sa_type=Utc, index=True)
    ended: datetime | None = Field(default=None, sa_type=Utc, index=True)
    starts: int = 0
    """How often it was started: more than once where its worker shut down and put it back."""
    waited: float | None = Field(default=None, sa_type=Double)
    """Seconds from due to the first start."""
    ran: float | None = Field(default=None, sa_type=Double)
    """Seconds it ran, all starts together; null where it never started, or has not ended."""
    published_bytes: int | None = Field(default=None, sa_type=BigInteger)
    """Bytes of the result, where this attempt published it."""
    updated: datetime = Field(sa_type=Utc)
    """When the server last changed the run: a later version replaces an earlier one."""
    checked: datetime = Field(sa_type=Utc)
    """When the run was last read from the server."""
    job_attempts: int | None = None
    """Attempts of the job, where this attempt decided its outcome; else null."""
    job_starts: int | None = None
    """Starts of the job, where this attempt decided its outcome; else null."""


class Job(Table, table=True):
    """One accepted request, from its submission to its outcome."""

    job: str = Field(primary_key=True, max_length=_ID)
    task: str = Field(max_length=_NAME)
    name: str = Field(max_length=_NAME)
    queue: str = Field(max_length=_NAME)
    """The queue it was submitted to."""
    outcome: str = Field(index=True, max_length=16)
    """completed, failed, cancelled or deleted; open before that."""
    submitted: datetime = Field(sa_type=Utc, index=True)
    started: datetime | None = Field(default=None, sa_type=Utc)
    ended: datetime | None = Field(default=None, sa_type=Utc, index=True)
    attempts: int
    starts: int
    waited: float | None = Field(default=None, sa_type=Double)
    """Seconds from due to the first start."""
    ran: float = Field(sa_type=Double)
    """Seconds that its attempts ran, all together."""
    published_bytes: int | None = Field(default=None, sa_type=BigInteger)


class Throughput(Table, table=True):
    """Counts of a period, by task and queue. There is no row where nothing happened."""

    period: str = Field(primary_key=True, max_length=8)
    """minute, hour, day, week (from Monday) or month."""
    start: datetime = Field(primary_key=True, sa_type=Utc)
    task: str = Field(primary_key=True, max_length=_NAME)
    queue: str = Field(primary_key=True, max_length=_NAME)
    """Queue of the attempt: one that follows a crash is in `high`."""
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
    """Attempts that ended and had run: the ran_ columns are about these."""
    published_bytes: int = Field(default=0, sa_type=BigInteger)
    waited_total: float = Field(default=0.0, sa_type=Double)
    """Seconds that the started attempts had waited."""
    waited_mean: float | None = Field(default=None, sa_type=Double)
    waited_p50: float | None = Field(default=None, sa_type=Double)
    waited_p95: float | None = Field(default=None, sa_type=Double)
    waited_p99: float | None = Field(default=None, sa_type=Double)
    ran_total: float = Field(default=0.0, sa_type=Double)
    """Seconds that the ended attempts had run."""
    ran_mean: float | None = Field(default=None, sa_type=Double)
    ran_p50: float | None = Field(default=None, sa_type=Double)
    ran_p95: float | None = Field(default=None, sa_type=Double)
    ran_p99: float | None = Field(default=None, sa_type=Double)
    waited_spread: str = Field(default="", sa_type=_Long)  # pyright: ignore[reportArgumentType]
    """Histogram of the values, as bucket:count; longer periods are made from it."""
    ran_spread: str = Field(default="", sa_type=_Long)  # pyright: ignore[reportArgumentType]


class AttemptsPerTask(Table, table=True):
    """Attempts and starts of the jobs that ended in a period."""

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
    """Starts per job."""


class Backlog(Table, table=True):
    """Attempts pending and running at one moment."""

    taken: datetime = Field(primary_key=True, sa_type=Utc)
    queue: str = Field(primary_key=True, max_length=_NAME)
    pending: int
    """Attempts that are due and that no worker holds."""
    running: int
    """Attempts that a worker holds."""
    oldest_wait: float = Field(sa_type=Double)
    """Seconds since the oldest pending attempt was due; 0 where there is none."""


class Watermark(Table, table=True):
    """The time up to which a kind of data has been processed."""

    name: str = Field(primary_key=True, max_length=64)
    at: datetime = Field(sa_type=Utc)


def columns(table: type[Table]) -> Columns:
    """Return the SQLAlchemy table of a model."""
    made: Columns = getattr(table, "__table__")  # noqa: B009  # SQLModel does not declare it
    return made
