"""The ends of jobs, read from the server's events: from any machine that reaches its API."""

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

_LIST = 20.0  # seconds between two lists, which have what the websocket may have lost
_OVERLAP = timedelta(minutes=5)  # so late may an event be told
_CONNECTED = 5.0  # seconds to wait for the websocket at first
_EVERY = 10_000  # ends
_SKEW = timedelta(days=1)  # by which a clock may be ahead

_Ends = dict[UUID, JobEnd]  # by the ids of their events


async def read_ends(client: PrefectClient, limit: int) -> list[JobEnd]:
    """The last ends of jobs, newest last; of a job that was retried after its end, the last one."""
    found: dict[UUID, JobEnd] = {}
    for end in (await _read(client, limit)).values():
        found.pop(end.job, None)  # it moves to its new place
        found[end.job] = end
    return list(found.values())


async def follow_ends(client: PrefectClient, limit: int) -> AsyncGenerator[JobEnd]:
    """The last ends of jobs, then each new one as it arrives; does not end by itself.

    A server that goes away is waited for. Raises httpx.HTTPError where there is none at first.
    """
    listed = datetime.now(UTC)
    news = asyncio.Queue[Event | None]()  # None: it is time for a list
    listener = asyncio.create_task(
        listen(ENDINGS, news.put_nowait, connected=lambda: news.put_nowait(None))
    )
    try:
        # Subscribed first: what comes between is in the list.
        await _next(news, _CONNECTED)
        shown = await _read(client, limit)
        recent = await _read(client, _EVERY, listed - _OVERLAP)
        shown |= {id: end for id, end in recent.items() if end.ended >= listed}
        seen: dict[UUID, None] = dict.fromkeys([*shown, *recent])
        for end in shown.values():
            yield end
        while True:
            event = await _next(news, _LIST)
            if event is None:
                now = datetime.now(UTC)
                try:
                    found = await _read(client, _EVERY, listed - _OVERLAP)
                except httpx.HTTPError:
                    continue  # the server is away: it is listed when it is back
                listed = now
            else:
                found = _ends([event])
            for id, end in found.items():
                if id not in seen:
                    seen[id] = None
                    yield end
            seen = dict.fromkeys(list(seen)[-_EVERY:])
    finally:
        listener.cancel()
        await asyncio.gather(listener, return_exceptions=True)


def line(end: JobEnd) -> str:
    """An end of a job in one line."""
    what = (
        f"{end.files:,} file{'' if end.files == 1 else 's'}, {end.bytes:,} bytes: {end.location}"
        if isinstance(end, JobCompleted)
        else end.reason
    )
    when = end.ended.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    text = f"{when}  {end.job}  {end.task}  {end.results_directory}  {end.outcome}  {what}"
    # A name is anyone's to choose, and must not steer the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


async def _next(news: asyncio.Queue[Event | None], patience: float) -> Event | None:
    try:
        return await asyncio.wait_for(news.get(), patience)
    except TimeoutError:
        return None


async def _read(client: PrefectClient, limit: int, since: datetime | None = None) -> _Ends:
    """The last ends, of those since then where that is given, newest last."""
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
    # An end may be announced late, by the notifier: the time of the event is not that of the end.
    return dict(sorted(ends.items(), key=lambda item: item[1].ended))


def _ends(events: list[Event]) -> _Ends:
    ends: _Ends = {}
    for event in events:
        try:
            ends[event.id] = JOB_END.validate_python(event.payload)
        except ValidationError:
            continue  # told by someone else, in our name
    return ends
