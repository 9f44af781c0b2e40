"""Whether this host is drained, and when the jobs that still run are moved to other hosts."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from prefect.client.orchestration import PrefectClient

from tasks.contracts import Drain
from tasks.prefect_api.drains import drain_of, read_drains

_INTERVAL = 30.0  # seconds between two reads: the event of a change brings the next one forward
_log = logging.getLogger(__name__)


class Draining:
    """The drain of one worker's host, as the server last reported it."""

    def __init__(self, client: PrefectClient, host: str, worker: str) -> None:
        self._client = client
        self._host = host
        self._worker = worker
        self._read_at = -_INTERVAL
        self.current: Drain | None = None
        """None where the host is not drained."""

    def read_next(self) -> None:
        """Make the next `refresh` read it."""
        self._read_at = -_INTERVAL

    async def refresh(self) -> None:
        """Read it from the server, unless that was done a short time ago."""
        now = asyncio.get_running_loop().time()
        if now - self._read_at < _INTERVAL:
            return
        found = drain_of(await read_drains(self._client), self._host, self._worker)
        self._read_at = now
        if found != self.current:
            self.current = found
            _log.info("%s", _in_words(found))

    def is_over(self, ahead: timedelta) -> bool:
        """Whether the jobs that still run are to be moved now.

        `ahead`: how far this host's clock is ahead of the server's.
        """
        until = self.current.until if self.current else None
        return until is not None and datetime.now(UTC) - ahead >= until


def _in_words(drain: Drain | None) -> str:
    if drain is None:
        return "this host is not drained any more"
    if drain.until is None:
        return "this host is drained: its jobs run to their end"
    return f"this host is drained: what runs at {drain.until:%F %T} UTC is moved to other hosts"
