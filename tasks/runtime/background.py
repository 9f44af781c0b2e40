"""Requests that a job makes beside its work."""

import asyncio
from typing import Any

_LAST = 5.0  # seconds to wait at the end for a request that is under way


async def let_finish(task: asyncio.Task[Any]) -> None:
    """Wait for a task for 5 s at most, then end it. Its errors are not raised."""
    await asyncio.wait({task}, timeout=_LAST)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
