"""What is private in Prefect's flow engine, and changed in the process of a job.

Prefect 3.9 has each run of a deployment listen for a request to suspend it: a thread with an event
loop of its own that wakes five times a second, a web socket that the server holds open as long as
the job runs, up to 0.2 s at the end of the job until the thread has noticed. No setting turns it
off. A compute task cannot be suspended: it goes on to its end, and a server on SQLite answers
nobody any more once 85 web sockets are open.
"""

import contextlib
from collections.abc import Generator
from typing import Any

import prefect.flow_engine


def listen_for_no_suspension() -> None:
    """Have the runs of this process listen for no request to suspend them."""
    prefect.flow_engine.observe_flow_run_suspension = _nothing  # pyright: ignore[reportPrivateImportUsage]


@contextlib.contextmanager
def _nothing(*args: Any, **kwargs: Any) -> Generator[None]:
    yield
