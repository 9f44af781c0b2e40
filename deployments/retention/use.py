"""How many bytes the results of each user have."""

import asyncio
import logging
from collections import Counter

from tasks.errors import PrefectureError
from tasks.storage.retention.records import Retention

_log = logging.getLogger(__name__)
_SHARE = 20  # of the time: for each second of counting, so many of rest
_SHORTEST = 15.0  # seconds for which a count is good


class ResultsUse:
    """Counts the bytes, not at each question: a figure may be some time old, and more where there
    are very many results."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._counted: Counter[str] | None = None
        self._counting: asyncio.Task[None] | None = None
        self._good_until = 0.0

    async def of(self, user: str) -> int:
        """Bytes of the results of a user. Raises as the methods of Retention."""
        if self._counting is None and asyncio.get_running_loop().time() > self._good_until:
            self._counting = asyncio.create_task(self._count())
        if self._counting is not None and self._counted is None:
            await asyncio.shield(self._counting)
        return (self._counted or Counter[str]())[user]

    def forget(self, user: str, size: int) -> None:
        """Take off the bytes of a result that has just been removed."""
        if self._counted is not None:
            self._counted[user] -= size

    async def _count(self) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()

        def count() -> Counter[str]:
            found = Counter[str]()
            for result in self._retention.results():
                if result.user is not None:
                    found[result.user] += result.bytes
            return found

        try:
            self._counted = await asyncio.to_thread(count)
        except PrefectureError as error:
            if self._counted is None:
                raise
            _log.warning("the results of users cannot be counted: %s", error)
        finally:
            self._counting = None
        self._good_until = clock() + max(_SHORTEST, _SHARE * (clock() - began))
