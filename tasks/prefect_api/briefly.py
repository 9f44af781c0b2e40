"""Answers of a Prefect server that requests of one client share for some seconds."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from prefect.client.orchestration import PrefectClient

_MOST = 256  # answers of a function that a client keeps
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Reader = Callable[Concatenate[PrefectClient, _P], Awaitable[_T]]


@dataclass
class _Answer:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = -math.inf
    value: Any = None


def briefly(seconds: float) -> Callable[[_Reader[_P, _T]], _Reader[_P, _T]]:
    """A decorator for a function that reads from a server: what it has returned counts for some
    seconds, and of callers at the same time one reads.

    Arguments must be hashable, and callers must not change what is returned. An error is not kept.
    Clients do not share answers.
    """

    def decorate(read: _Reader[_P, _T]) -> _Reader[_P, _T]:
        known: WeakKeyDictionary[PrefectClient, dict[Hashable, _Answer]] = WeakKeyDictionary()

        @wraps(read)
        async def wrapper(client: PrefectClient, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            answers = known.setdefault(client, {})
            if len(answers) > _MOST:
                now = time.monotonic()
                for key in [key for key, one in answers.items() if now - one.at > seconds]:
                    if not answers[key].lock.locked():
                        del answers[key]
            answer = answers.setdefault((args, *sorted(kwargs.items())), _Answer())
            async with answer.lock:
                if time.monotonic() - answer.at > seconds:
                    answer.value = await read(client, *args, **kwargs)
                    answer.at = time.monotonic()
                return answer.value

        return wrapper

    return decorate
