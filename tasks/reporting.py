"""Whether a run reports to a Prefect server: its events, artifacts, retried tasks and labels."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_reports = ContextVar("reports", default=True)


def reports_to_server() -> bool:
    """Whether this run reports to a server: always, except under `tasks.locally.run_locally`."""
    return _reports.get()


@contextmanager
def without_server() -> Generator[None]:
    """Report nothing while the block runs, nor from the threads that it starts by asyncio."""
    token = _reports.set(False)
    try:
        yield
    finally:
        _reports.reset(token)
