"""Runs asynchronous code for callers that are not: scripts, threads, and notebooks."""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end and return its result, also where an event loop runs already.

    Ctrl-C, or the Stop of a notebook, cancels it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    # A loop runs here, that of a notebook: another thread has one of its own.
    started = Future[asyncio.Task[Any]]()

    async def noted() -> _T:
        task = asyncio.current_task()
        assert task is not None
        started.set_result(task)
        return await coroutine

    with ThreadPoolExecutor(1, "prefecture") as threads:
        running = threads.submit(asyncio.run, noted())
        try:
            return running.result()
        finally:
            if not running.done():
                task = started.result()
                task.get_loop().call_soon_threadsafe(task.cancel)
