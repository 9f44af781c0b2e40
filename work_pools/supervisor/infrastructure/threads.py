"""Threads of their own for what may take half a minute: all else would have to wait for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_STOPPED_AT_ONCE = 64

_stops = ThreadPoolExecutor(_STOPPED_AT_ONCE, thread_name_prefix="stop")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like asyncio.to_thread, apart from everything else that is done in threads."""
    return await asyncio.wrap_future(_stops.submit(work, *args, **kwargs))
