"""The inbox: final events of jobs, read from the server on any machine that reaches its API."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter
from pydantic import ValidationError

from deployments.notifications.notifier.loops import listen
from deployments.notifications.schema import JOB_END, JobEnd
from tasks.prefect_api.pages import EVENTS_PAGE
from tasks.runtime.events import ENDINGS, JobCompleted

_LIST = 20.0  # seconds between two lists, which recover events that the websocket lost
_OVERLAP = timedelta(minutes=5)  # by which the server may list an event late
_CONNECTED = 5.0  # seconds to wait for the first connection of the websocket
_MAX_RECENT = 10_000  # events
_SKEW = timedelta(days=1)  # by which the clock of another machine may be fast

_Ends = dict[UUID, JobEnd]  # by the ids of their events


async def read_ends(client: PrefectClient, limit: int) -> list[JobEnd]:
    """Read the last final events, newest last; of a job with several, only the newest."""
    found: dict[UUID, JobEnd] = {}
    for end in (await _read(client, limit)).values():
        found.pop(end.job, None)  # a later event of the same job replaces the earlier one
        found[end.job] = end
    return list(found.values())


async def follow_ends(client: PrefectClient, limit: int) -> AsyncGenerator[JobEnd]:
    """Yield the last final events, then each new one as it arrives, without end.

    Outages of the server are waited out. Raises httpx.HTTPError where it cannot be reached at the
    start.
    """
    listed = datetime.now(UTC)
    news = asyncio.Queue[Event | None]()  # None: list the events again
    listener = asyncio.create_task(
        listen(ENDINGS, news.put_nowait, connected=lambda: news.put_nowait(None))
    )
    try:
        # Subscribed before the list is read: no event is lost between the two.
        await _next(news, _CONNECTED)
        shown = await _read(client, limit)
        recent = await _read(client, _MAX_RECENT, listed - _OVERLAP)
        shown |= {id: end for id, end in recent.items() if end.ended >= listed}
        seen: dict[UUID, None] = dict.fromkeys([*shown, *recent])
        for end in shown.values():
            yield end
        while True:
            event = await _next(news, _LIST)
            if event is None:
                now = datetime.now(UTC)
                try:
                    found = await _read(client, _MAX_RECENT, listed - _OVERLAP)
                except httpx.HTTPError:
                    continue  # the server is away: the next list has the events
                listed = now
            else:
                found = _ends([event])
            for id, end in found.items():
                if id not in seen:
                    seen[id] = None
                    yield end
            seen = dict.fromkeys(list(seen)[-_MAX_RECENT:])
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


def line(end: JobEnd) -> str:
    """A final event in one line."""
    what = (
        f"{end.files:,} file{'' if end.files == 1 else 's'}, {end.bytes:,} bytes: {end.location}"
        if isinstance(end, JobCompleted)
        else end.reason
    )
    when = end.ended.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = f"{when}  {end.job}  {end.task}  {end.results_directory}  {end.outcome}  {what}"
    # Users choose the names: control characters must not reach the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


async def _next(news: asyncio.Queue[Event | None], seconds: float) -> Event | None:
    try:
        return await asyncio.wait_for(news.get(), seconds)
    except TimeoutError:
        return None


async def _read(client: PrefectClient, limit: int, since: datetime | None = None) -> _Ends:
    """The last final events, newest last; with `since`, only those after it."""
    if limit <= 0:
        return {}
    occurred = {"until": datetime.now(UTC) + _SKEW} | ({"since": since} if since else {})
    wanted = EventFilter(
        event=EventNameFilter(name=[*ENDINGS]),
        occurred=EventOccurredFilter.model_validate(occurred),
    )
    page = await client.read_events(wanted, min(limit, EVENTS_PAGE))
    found: list[Event] = [*page.events]
    while page.next_page and len(found) < limit:
        page = await client.read_events_page(str(page.next_page))
        found += page.events
    ends = _ends(found[:limit][::-1])
    # The notifier may emit an event late: sort by the time at which the job ended.
    return dict(sorted(ends.items(), key=lambda item: item[1].ended))


def _ends(events: list[Event]) -> _Ends:
    ends: _Ends = {}
    for event in events:
        try:
            ends[event.id] = JOB_END.validate_python(event.payload)
        except ValidationError:
            continue  # another program used the name of our event
    return ends
