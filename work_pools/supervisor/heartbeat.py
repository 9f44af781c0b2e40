"""Heartbeat of a supervisor for the process that started it."""

import asyncio
import os

_INTERVAL = 1.0  # seconds


async def beat(descriptor: int) -> None:
    """Write a byte into a pipe every second, as long as the event loop is not blocked.

    Returns when the reader has closed the pipe.
    """
    os.set_blocking(descriptor, False)
    while True:
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            pass  # the pipe is full: the reader has enough heartbeats to read
        except BrokenPipeError:
            return
        await asyncio.sleep(_INTERVAL)
