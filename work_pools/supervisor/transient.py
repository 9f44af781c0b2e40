"""What passes by itself, and what must not spread from one run to all others."""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

from tasks.errors import EngineUnavailable, StorageUnavailable, in_short
from tasks.prefect_api.transient import is_transient as of_server

_log = logging.getLogger(__name__)


def is_transient(error: BaseException) -> bool:
    """Whether server or engine is away, rather than something wrong with one run.

    Not storage: most that there is to do for other runs can be done without it.
    """
    return isinstance(error, EngineUnavailable) or of_server(error)


@contextmanager
def apart(run: UUID) -> Generator[None]:
    """What is done about one run: where it cannot be done, the others do not suffer.

    It is tried again at the next look. Raises what is an outage.
    """
    try:
        yield
    except Exception as error:
        if is_transient(error):
            raise
        passes = isinstance(error, StorageUnavailable)
        _log.warning("%s: nothing can be done now: %s", run, in_short(error), exc_info=not passes)
