"""Transient errors, and isolation of one run's errors from the other runs."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

from tasks.errors import EngineUnavailable, StorageUnavailable, in_short
from tasks.prefect_api.transient import is_transient as of_server

_log = logging.getLogger(__name__)


def is_transient(error: BaseException) -> bool:
    """Whether an error is an outage of the server or the engine, and no fault of one run.

    An outage of storage does not count: most work on other runs needs no storage.
    """
    return isinstance(error, EngineUnavailable) or of_server(error)


@contextmanager
def isolated(run: UUID) -> Generator[None]:
    """Context for work on one run: logs and suppresses its errors, so that the other runs go on.

    The next sweep retries. Raises transient errors (see is_transient).
    """
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise
        transient = isinstance(error, StorageUnavailable)
        _log.warning("%s: retried later: %s", run, in_short(error), exc_info=not transient)
