"""The sign of life that a supervisor gives to whoever has started it."""

import asyncio
import os

_INTERVAL = 1.0  # seconds


async def beat(descriptor: int) -> None:
    """Write a byte into a pipe every second, for as long as this event loop turns.

    Ends where nobody is at the other end.
    """
    os.set_blocking(descriptor, False)
    while True:
        try:
            os.write(descriptor, b".")
        except BlockingIOError:
            pass  # full: whoever reads it does not now, and sees enough when it does
        except BrokenPipeError:
            return
        await asyncio.sleep(_INTERVAL)
