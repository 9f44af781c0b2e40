"""Maps an exception or SIGTERM to the final state of a flow run."""

import asyncio
import errno
import os
import signal
import threading
from typing import Any

import httpx
from prefect import State, get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Abort, ObjectNotFound, TerminationSignal
from prefect.logging import get_run_logger
from prefect.states import Crashed, Failed

from tasks.contracts import INFRASTRUCTURE
from tasks.errors import PrefectureError, ResultsUnwritable, in_short
from tasks.runtime.unreached import unreached, with_cure
from tasks.settings import get_settings, has_process_of_its_own
from tasks.storage.results import local_files
from tasks.storage.results.disk import disk_fault

STOPPED = (asyncio.CancelledError, TerminationSignal)
"""The exceptions that SIGTERM raises in a flow: the first at an `await`, else the second."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # errors of a full or read-only disk
_EXIT_AFTER = 5.0  # seconds that Prefect's engine has to report the final state
_ASKING = 4.0  # seconds of these to ask the server for the reason


async def state_for(error: BaseException) -> State:
    """Return the final state for a PrefectureError or a full disk: Failed, with one line.

    Crashed, so that the job is retried, where no job can write results now: the stage is removed,
    so it is not this job that filled the disk. Any other error is raised unchanged.

    For SIGTERM, a process of the run's own exits soon after. Where the run was cancelled, Abort is
    raised: Prefect then reports no state, where it would report a crash, and the supervisor sets
    Cancelled once no process of the run is left.
    """
    if isinstance(error, STOPPED):
        _exit_soon()
        if await _is_cancelling():
            get_run_logger().info("cancelled: its work is stopped")
            asyncio.get_running_loop().set_exception_handler(_all_but_abort)
            raise Abort("cancelled") from None
        raise error
    if isinstance(error, OSError | ResultsUnwritable):
        settings = get_settings()
        fault = await asyncio.to_thread(disk_fault, settings.written, int(settings.min_free_disk))
        if fault is not None:
            get_run_logger().error("%s", fault)
            return Crashed(message=f"{INFRASTRUCTURE}{fault}")
    if isinstance(error, OSError):
        if error.errno not in _NO_ROOM:
            return unreached(error)
        error = local_files.unwritable(get_settings().written, error)
    if not isinstance(error, PrefectureError):
        raise error
    reason = with_cure(str(error), error)
    get_run_logger().error("%s", reason)
    return Failed(message=reason)


async def _is_cancelling() -> bool:
    """Whether the run is stopped since it was cancelled. False where the server does not answer:
    Prefect then reports a crash, and the supervisor corrects it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    try:
        async with asyncio.timeout(_ASKING), get_client() as client:
            state = (await client.read_flow_run(context.flow_run.id)).state
    except (TimeoutError, httpx.HTTPError, ObjectNotFound) as problem:
        get_run_logger().warning(
            "could not ask the server why this run is stopped: %s", in_short(problem)
        )
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _all_but_abort(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle exceptions of an event loop as by default, but ignore Abort."""
    if not isinstance(context.get("exception"), Abort):
        loop.default_exception_handler(context)


def _exit_soon() -> None:
    """Exit this process soon after SIGTERM, even while threads work: they cannot be interrupted,
    and the interpreter would wait for each."""
    if has_process_of_its_own():
        end = threading.Timer(_EXIT_AFTER, os._exit, (128 + signal.SIGTERM,))
        end.daemon = True
        end.start()
