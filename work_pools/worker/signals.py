"""The end of a worker by a signal."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from tasks.prefect_api.ending import ENDS_WITHIN, end_in_time

_STOPPING = (signal.SIGINT, signal.SIGTERM)


async def until_stopped(work: Coroutine[Any, Any, None], say: Callable[[str], object]) -> None:
    """Run `work`, and cancel it at the first SIGINT or SIGTERM. The second ends the process, and so
    does the time, after ENDS_WITHIN seconds: jobs that still run go on, watched by the supervisor.

    Prefect's own handler raises KeyboardInterrupt wherever the program is just then. Libraries that
    call back into Python, such as pydantic, turn that into an error of theirs, which is caught: the
    signal was lost, and the worker went on.
    """
    loop, working = asyncio.get_running_loop(), asyncio.ensure_future(work)

    def stop() -> None:
        for number in _STOPPING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        say(
            f"stopping: waiting {ENDS_WITHIN:.0f} s for the jobs that run; "
            "a second signal ends this at once"
        )
        end_in_time("worker")
        working.cancel()

    for number in _STOPPING:
        loop.add_signal_handler(number, stop)
    await working
