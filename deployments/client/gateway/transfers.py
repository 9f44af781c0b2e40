"""How uploads and downloads go on after their connection breaks."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tasks.errors import ServerUnavailable

PATIENCE = 60.0
"""Seconds without any progress after which a request or a transfer is given up."""
AT_ONCE = 4
"""Files that are transferred at once."""
CHUNK = 2**20
"""Bytes that are read and written at once."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_LONGEST_TURN = 600.0  # seconds for which one that has patience waits for its turn
_T = TypeVar("_T")


class Patience:
    """The pauses between the tries of what has failed, until nothing has come of it for a time."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._seconds = seconds
        self._clock = asyncio.get_running_loop().time
        self._turn_until = self._clock() + (_LONGEST_TURN if seconds else 0.0)
        self.renew()

    def renew(self) -> None:
        """Count from now: there was progress."""
        self._until, self._pause = self._clock() + self._seconds, _FIRST_PAUSE

    async def rest(self, at_least: float = 0.0, *, is_turn: bool = False) -> bool:
        """Pause for a while, `at_least` so many seconds; False, at once, where the time is over.

        `is_turn`: who was told to wait for a turn, since others or the same user send too much,
        has more time.
        """
        # Not all at the same moment, where many were told to wait.
        wait = max(self._pause, at_least) * random.uniform(1.0, 1.2)
        if self._clock() + wait > (self._turn_until if is_turn else self._until):
            return False
        if is_turn:
            self._until += wait
        await asyncio.sleep(wait)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True


async def each(items: Iterable[_T], action: Callable[[_T], Awaitable[None]]) -> None:
    """Apply an action to each item, some at a time. The first error ends all, and is raised."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(item: _T) -> None:
        async with turn:
            await action(item)

    started = [asyncio.create_task(one(item)) for item in items]
    try:
        await asyncio.gather(*started)
    finally:
        for task in started:
            task.cancel()
        await asyncio.gather(*started, return_exceptions=True)


def broken_off(what: str, url: str, reason: object) -> ServerUnavailable:
    """The error for a transfer that was given up."""
    return ServerUnavailable(
        f"{what} has broken off: the gateway at {url} does not answer ({reason}): the same command "
        "again continues it"
    )
