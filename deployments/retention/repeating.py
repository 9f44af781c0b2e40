"""Repeats the removal of what is old, for as long as the program runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from tasks.errors import in_short

_SHARE = 100  # of the time: for each second of looking, so many of rest
_SHORTEST, _LONGEST = 60.0, 3600.0  # seconds between two looks
_log = logging.getLogger(__name__)


async def repeat(look: Callable[[], Awaitable[None]], failed: str) -> None:
    """Call `look` until cancelled. An error is logged, once while it is the same; `failed` begins
    the line."""
    clock = asyncio.get_running_loop().time
    said = ""
    while True:
        began, reason = clock(), ""
        try:
            await look()
        except Exception as error:  # noqa: BLE001  # logged and retried: the loop must not end
            reason = in_short(error)
        if reason not in ("", said):
            _log.warning("%s: %s", failed, reason)
        said = reason
        await asyncio.sleep(min(_LONGEST, max(_SHORTEST, _SHARE * (clock() - began))))
