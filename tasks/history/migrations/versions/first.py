"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None

# Not imported from the models: later changes of the tables must not change this migration.
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_DOUBLE: TypeEngine[float] = sa.Double()
_LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def _create_table(name: str, *parts: sa.Column[Any] | sa.PrimaryKeyConstraint) -> None:
    # MySQL commits every statement here by itself: a killed migration is run anew. Names are any
    # text, case-sensitive, whatever the server's default character set.
    if_missing = op.get_bind().dialect.name in ("mysql", "mariadb")
    charset = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
    op.create_table(name, *parts, if_not_exists=if_missing, **charset)


def _create_index(table: str, column: str) -> None:
    name = f"ix_{table}_{column}"
    if name not in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, [column])


def upgrade() -> None:
    """Create the tables."""
    _create_table(
        "attempt",
        sa.Column("flow_run", sa.String(36), nullable=False),
        sa.Column("job", sa.String(36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("pool", sa.String(128), nullable=False),
        sa.Column("worker", sa.String(128), nullable=True),
        sa.Column("host", sa.String(128), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(1000), nullable=True),
        sa.Column("submitted", _TIME, nullable=False),
        sa.Column("due", _TIME, nullable=False),
        sa.Column("started", _TIME, nullable=True),
        sa.Column("ended", _TIME, nullable=True),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("waited", _DOUBLE, nullable=True),
        sa.Column("ran", _DOUBLE, nullable=True),
        sa.Column("published_bytes", sa.BigInteger(), nullable=True),
        sa.Column("updated", _TIME, nullable=False),
        sa.Column("checked", _TIME, nullable=False),
        sa.Column("job_attempts", sa.Integer(), nullable=True),
        sa.Column("job_starts", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("flow_run"),
    )
    _create_index("attempt", "ended")
    _create_index("attempt", "job")
    _create_index("attempt", "started")
    _create_index("attempt", "state")
    _create_index("attempt", "submitted")
    _create_table(
        "attempts_per_task",
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("start", _TIME, nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("average_starts", _DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("period", "start", "task"),
    )
    _create_table(
        "backlog",
        sa.Column("taken", _TIME, nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("oldest_wait", _DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("taken", "queue"),
    )
    _create_table(
        "job",
        sa.Column("job", sa.String(36), nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("submitted", _TIME, nullable=False),
        sa.Column("started", _TIME, nullable=True),
        sa.Column("ended", _TIME, nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("waited", _DOUBLE, nullable=True),
        sa.Column("ran", _DOUBLE, nullable=False),
        sa.Column("published_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("job"),
    )
    _create_index("job", "ended")
    _create_index("job", "outcome")
    _create_index("job", "submitted")
    _create_table(
        "throughput",
        sa.Column("period", sa.String(8), nullable=False),
        sa.Column("start", _TIME, nullable=False),
        sa.Column("task", sa.String(128), nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("started", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("crashed", sa.Integer(), nullable=False),
        sa.Column("cancelled", sa.Integer(), nullable=False),
        sa.Column("ran", sa.Integer(), nullable=False),
        sa.Column("published_bytes", sa.BigInteger(), nullable=False),
        sa.Column("waited_total", _DOUBLE, nullable=False),
        sa.Column("waited_mean", _DOUBLE, nullable=True),
        sa.Column("waited_p50", _DOUBLE, nullable=True),
        sa.Column("waited_p95", _DOUBLE, nullable=True),
        sa.Column("waited_p99", _DOUBLE, nullable=True),
        sa.Column("ran_total", _DOUBLE, nullable=False),
        sa.Column("ran_mean", _DOUBLE, nullable=True),
        sa.Column("ran_p50", _DOUBLE, nullable=True),
        sa.Column("ran_p95", _DOUBLE, nullable=True),
        sa.Column("ran_p99", _DOUBLE, nullable=True),
        sa.Column("waited_spread", _LONG, nullable=False),
        sa.Column("ran_spread", _LONG, nullable=False),
        sa.PrimaryKeyConstraint("period", "start", "task", "queue"),
    )
    _create_table(
        "watermark",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
