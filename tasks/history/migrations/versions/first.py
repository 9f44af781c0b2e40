"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None

# Written out: a later change of the tables must not change what this made.
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
_DOUBLE: TypeEngine[float] = sa.Double()
_LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")


def upgrade() -> None:
    """Make them."""
    op.create_table(
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
    op.create_index("ix_attempt_ended", "attempt", ["ended"])
    op.create_index("ix_attempt_job", "attempt", ["job"])
    op.create_index("ix_attempt_started", "attempt", ["started"])
    op.create_index("ix_attempt_state", "attempt", ["state"])
    op.create_index("ix_attempt_submitted", "attempt", ["submitted"])
    op.create_table(
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
    op.create_table(
        "backlog",
        sa.Column("taken", _TIME, nullable=False),
        sa.Column("queue", sa.String(128), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("oldest_wait", _DOUBLE, nullable=False),
        sa.PrimaryKeyConstraint("taken", "queue"),
    )
    op.create_table(
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
    op.create_index("ix_job_ended", "job", ["ended"])
    op.create_index("ix_job_outcome", "job", ["outcome"])
    op.create_index("ix_job_submitted", "job", ["submitted"])
    op.create_table(
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
    op.create_table(
        "watermark",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
