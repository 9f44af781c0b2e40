"""How an attempt ends where its work did not: the state for an error, and nothing for a stop."""

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
from tasks.settings import get_settings, has_process_of_its_own
from tasks.storage.results import local_files
from tasks.storage.results.disk import disk_fault

STOPPED = (asyncio.CancelledError, TerminationSignal)
"""What SIGTERM raises in a flow: the first where it awaits something, else the second."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # met in the middle of the work itself
_LAST_WORDS = 5.0  # seconds in which the engine tells the server of its end
_ASKING = 4.0  # of these, in which the server says why the end has come


async def ended(error: BaseException) -> State:
    """The state that an error of ours, or a full disk, ends a run in: Failed, with one line.

    Crashed, to be tried again, where nobody's results can be written now: the stage is gone, and so
    it is not this job that has filled the disk. Raises any other error again.

    Where the run is being stopped, its process ends soon after; where that is since it was
    cancelled, the supervisor says so once nothing runs any more, and the engine is told to say
    nothing: it would call the end a crash.
    """
    if isinstance(error, STOPPED):
        _end_soon()
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
            raise error
        error = local_files.unwritable(get_settings().written, error)
    if not isinstance(error, PrefectureError):
        raise error
    get_run_logger().error("%s", error)
    return Failed(message=str(error))


async def _is_cancelling() -> bool:
    """Whether that is what the run is stopped for. No, where nobody answers: the engine calls it
    a crash then, and the supervisor has the last word."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    try:
        async with asyncio.timeout(_ASKING), get_client() as client:
            state = (await client.read_flow_run(context.flow_run.id)).state
    except (TimeoutError, httpx.HTTPError, ObjectNotFound) as problem:
        get_run_logger().warning("why it is stopped is not known: %s", in_short(problem))
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def _all_but_abort(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Nothing is amiss where a loop that ends meets Abort."""
    if not isinstance(context.get("exception"), Abort):
        loop.default_exception_handler(context)


def _end_soon() -> None:
    """Have this process end soon after SIGTERM, whatever its threads are at: nothing else can
    interrupt one, and the interpreter would wait for each."""
    if has_process_of_its_own():
        end = threading.Timer(_LAST_WORDS, os._exit, (128 + signal.SIGTERM,))
        end.daemon = True
        end.start()
