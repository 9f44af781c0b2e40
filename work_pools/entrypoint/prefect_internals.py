"""Changes to private parts of Prefect's flow engine in the process of a job.

In Prefect 3.9 each run of a deployment listens for a request to suspend it. This costs a thread
with its own event loop that wakes five times a second, a web socket for as long as the job runs,
and up to 0.2 s at the end of the job. No setting turns it off. A compute task cannot be suspended,
and a server on SQLite stops answering once 85 web sockets are open.

For each pull step the engine sends an event, for which it opens a web socket and waits until the
server has answered three times. Nothing reads it: where a step fails, the run says so.

The engine reads its run by a function that is imported by name, and by no parameter. This process
has read the run already, to see whether it is over: a second request would tell it nothing new.
"""

import contextlib
from collections.abc import Generator
from typing import Any

import prefect.deployments.steps.core
import prefect.flow_engine
from prefect.client.schemas.objects import FlowRun


def listen_for_no_suspension() -> None:
    """Turn off listening for suspend requests in this process."""
    prefect.flow_engine.observe_flow_run_suspension = _nothing  # pyright: ignore[reportPrivateImportUsage]


def report_no_steps() -> None:
    """Turn off the events of pull steps in this process."""
    prefect.deployments.steps.core._emit_pull_step_event = _nothing_now  # pyright: ignore[reportPrivateUsage]


def load_no_other(run: FlowRun) -> None:
    """Give the engine of this process a run that was just read, in place of a request for it."""
    prefect.flow_engine.load_flow_run = lambda flow_run_id: run


async def _nothing_now(*args: Any, **kwargs: Any) -> None:
    pass


@contextlib.contextmanager
def _nothing(*args: Any, **kwargs: Any) -> Generator[None]:
    yield
