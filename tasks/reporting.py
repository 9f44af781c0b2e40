"""Whether a run reports to a Prefect server: events, artifacts, retries, labels of its flow run."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_reports = ContextVar("reports", default=True)


def reports_to_server() -> bool:
    """Whether there is a server that is notified of this run; see tasks.locally for one without."""
    return _reports.get()


@contextmanager
def without_server() -> Generator[None]:
    """While the block runs, and in the threads that it starts by asyncio, nothing is reported."""
    token = _reports.set(False)
    try:
        yield
    finally:
        _reports.reset(token)
