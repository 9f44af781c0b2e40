"""A separate pool of threads for calls that take up to half a minute, so that no others wait."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = 64

_stops = ThreadPoolExecutor(_THREADS, thread_name_prefix="stop")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Like asyncio.to_thread, in this module's own pool of threads."""
    return await asyncio.wrap_future(_stops.submit(work, *args, **kwargs))
