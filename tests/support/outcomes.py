"""Ends of jobs that never were, to send."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from tasks.runtime.events import JobCancelled, JobCompleted, JobFailed


def _common() -> dict[str, Any]:
    return {
        "job": uuid4(),
        "task": "find-primes",
        "name": "quick-heron",
        "results_directory": "primes/höhere",
        "ended": datetime.now(UTC),
        "attempts": 2,
        "waited": 0.5,
        "ran": 62.0,
    }


def completed(**fields: Any) -> JobCompleted:
    """A job that has completed, but for the fields that are given."""
    own = {"location": "/results/primes/höhere/1", "files": 3, "bytes": 12_000}
    return JobCompleted.model_validate(_common() | own | fields)


def failed(**fields: Any) -> JobFailed:
    """A job that has failed."""
    own = {"reason": "no such source 'x': put files there"}
    return JobFailed.model_validate(_common() | own | fields)


def cancelled(**fields: Any) -> JobCancelled:
    """A job that was cancelled."""
    return JobCancelled.model_validate(_common() | {"reason": "cancelled by anna"} | fields)
