"""Reads the log of a job, in all of its attempts."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter
from prefect.client.schemas.objects import Log
from prefect.client.schemas.sorting import LogSort

from deployments.connection import connect
from deployments.jobs.attempts import OUTCOMES, decisive_attempt, known_attempts
from deployments.jobs.following import outage_error
from deployments.jobs.records import LONGEST_OUTAGE, Line
from deployments.jobs.request import cut
from tasks.contracts import attempt_number, plain
from tasks.errors import InvalidPayload
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.transient import is_transient

_POLL, _SLOWEST_POLL = 1.0, 3.0  # seconds between two queries; the second where nothing comes
# The API shows a run's last lines some seconds after they were written, and after its end.
_LATE = timedelta(seconds=10)
_SETTLED = 5.0
_DIGESTS, _DIGITS = 16, 6  # lines that a position names, and hexadecimal digits of each
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_SENT = 1_000  # lines, after which those that cannot come again are forgotten


class _Reached:
    """How far a log is read: up to the newest line, and which lines were read before it.

    The server may show a line some seconds after later ones of another process. As text, it has
    digests of the last few lines, and the time before which all lines count as read.
    """

    def __init__(self, text: str) -> None:
        """Read a text. Raises InvalidPayload where it is none of a position."""
        try:
            newest, floor, *digests = text.split(".") if text else ("0", "0")
            self._newest = _EPOCH + int(newest) * _MICROSECOND if text else None
            self._floor = _EPOCH + int(floor) * _MICROSECOND
        except (ValueError, OverflowError):
            raise InvalidPayload(f"after: {cut(text)!r} is no id of a line of a log") from None
        self._last = deque((self._floor, digest) for digest in digests[:_DIGESTS])
        self._before = (self._newest, self._floor, {*digests})
        self._begin = _EPOCH
        self._read: dict[UUID, datetime] = {}

    @property
    def since(self) -> datetime:
        """The time from which lines are to be read."""
        return max(self._begin, self._newest - _LATE) if self._newest else self._begin

    def leave_out(self, until: datetime) -> None:
        """Count all lines up to a time as read."""
        self._floor, self._begin = until, until + _MICROSECOND

    def takes(self, log: Log) -> bool:
        """Whether a line is new. It counts as read from then on."""
        at, digest = plain(log.timestamp), log.id.hex[-_DIGITS:]
        newest, floor, digests = self._before
        if log.id in self._read or at < self._begin:
            return False
        if newest and at <= newest and (at <= floor or digest in digests):
            return False
        self._read[log.id] = at
        self._last.append((at, digest))
        if len(self._last) > _DIGESTS:
            self._floor = max(self._floor, self._last.popleft()[0])
        self._newest = max(self._newest or at, at)
        if len(self._read) > _MOST_SENT:
            since = self._newest - _LATE
            self._read = {id: at for id, at in self._read.items() if at >= since}
        return True

    def __str__(self) -> str:
        """The position as text, in ASCII."""
        if self._newest is None:
            return ""
        times = (self._newest, max(self._floor, self._newest - _LATE))
        numbers = [str((time - _EPOCH) // _MICROSECOND) for time in times]
        return ".".join([*numbers, *(digest for _, digest in self._last)])


def check_position(text: str) -> None:
    """Raise InvalidPayload where a text is no position in a log."""
    _Reached(text)


async def read_logs(
    job: UUID, *, follow: bool = False, tail: int | None = None, after: str = ""
) -> AsyncGenerator[Line]:
    """Read the log of a job, oldest line first; with `follow`, until it has ended.

    `job` is its id, or the id of any attempt at it. `tail`: the last lines alone, so many;
    `after`: the position of a line, from which to go on. Holds no more than a page of lines. With
    `follow`, tolerates ten minutes without a server. Raises InvalidPayload where the server knows
    no such job, or the position is none, and ServerUnavailable.
    """
    reached, pause = _Reached(after), _POLL
    clock = asyncio.get_running_loop().time
    answered: float | None = None
    ended_at: float | None = None
    # To follow, without the retries of Prefect's client: see `following.follow`.
    async with connect(retries=0 if follow else None) as client:
        while True:
            try:
                runs = await known_attempts(client, job)
                attempts = {run.id: attempt_number(run.labels) for run in runs}
                pause = min(_SLOWEST_POLL, 1.5 * pause)
                if tail is None:
                    lines = _logs(client, [*attempts], reached.since)
                else:
                    lines = _last_logs(client, [*attempts], tail, reached)
                async with aclosing(lines):
                    async for log in lines:
                        if log.flow_run_id is not None and reached.takes(log):
                            pause = _POLL
                            yield Line(
                                log.timestamp,
                                attempts[log.flow_run_id],
                                log.level,
                                log.message,
                                str(reached),
                            )
                answered, tail = clock(), None
            except httpx.HTTPError as error:
                if answered is None or not is_transient(error):
                    raise
                if clock() - answered > LONGEST_OUTAGE:
                    raise outage_error(job) from error
                await asyncio.sleep(_POLL)
                continue
            ended = decisive_attempt(runs).state_type in OUTCOMES
            ended_at = (ended_at or clock()) if ended else None
            if not follow or (ended_at is not None and clock() - ended_at > _SETTLED):
                return
            await asyncio.sleep(pause)


async def _logs(client: PrefectClient, runs: list[UUID], since: datetime) -> AsyncGenerator[Log]:
    """The log records of the runs since a time, oldest first; some of them twice."""
    skipped = 0
    while True:
        page = await _page(client, runs, LogSort.TIMESTAMP_ASC, PAGE, skipped, since)
        for log in page:
            yield log
        if len(page) < PAGE:
            return
        # On from the last line's time: by an offset, each page would cost more than that before.
        last = page[-1].timestamp
        skipped = skipped + PAGE if last == since else 0
        since = last


async def _last_logs(
    client: PrefectClient, runs: list[UUID], number: int, reached: _Reached
) -> AsyncGenerator[Log]:
    """The last log records of the runs, oldest first. All others count as read from then on."""
    found: list[Log] = []
    while len(found) < number:
        size = min(PAGE, number - len(found))
        page = await _page(client, runs, LogSort.TIMESTAMP_DESC, size, len(found), None)
        found += page
        if len(page) < size:
            break
    for log in reversed(found):
        yield log
    if found:
        reached.leave_out(plain(found[-1].timestamp))


async def _page(
    client: PrefectClient,
    runs: list[UUID],
    sort: LogSort,
    limit: int,
    offset: int,
    since: datetime | None,
) -> list[Log]:
    wanted = {"flow_run_id": {"any_": runs}} | ({"timestamp": {"after_": since}} if since else {})
    return await client.read_logs(
        log_filter=LogFilter.model_validate(wanted), limit=limit, offset=offset, sort=sort
    )
