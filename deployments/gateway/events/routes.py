"""Routes for events: the changes of all jobs that a token may see, and those of one job."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request
from fastapi.sse import format_sse_event
from starlette.responses import Response

from deployments.gateway.events.journal import Entry, Journal, message
from deployments.gateway.events.known import KnownJobs
from deployments.gateway.events.streams import (
    AWAY,
    MOST,
    MOST_BEHIND,
    Places,
    Stream,
    StreamResponse,
    Streams,
)
from deployments.gateway.events.watcher import Watcher
from deployments.gateway.jobs import Client, Reader, find_visible
from deployments.gateway.users.access import Access, Caller
from deployments.jobs.attempts import decisive_attempt, known_attempts
from tasks.settings import Settings

_LONGEST_CURSOR = 300  # characters
_OK, _NO_CONTENT = 200, 204

router = APIRouter()


class Events:
    """All that streams of events need."""

    def __init__(self, settings: Settings) -> None:
        self.streams = Streams(Places(settings.gateway_streams, MOST))
        self.journal = Journal(settings.home / "gateway" / "events.jsonl")
        self.known = KnownJobs(self.journal, self.streams)
        self.watcher = Watcher(self.known, self.streams)

    def missed(self, stream: Stream, cursor: str | None) -> list[Entry]:
        """The changes that a client has missed since a cursor.

        Tells it where it stands, and to read its list anew where they are not known any more.
        """
        found = self.journal.after(cursor) if cursor else []
        missed = [entry for entry in found or () if stream.sees(entry)]
        if found is None or len(missed) >= MOST_BEHIND:
            stream.put(format_sse_event(event="reset", data_str="{}", id=self.journal.head))
            stream.is_reset = True
            return []
        # Without data it is no event: it only sets the client's position.
        stream.put(format_sse_event(comment="open", id=cursor or self.journal.head))
        return missed

    def respond(self, request: Request, caller: Caller, stream: Stream) -> StreamResponse:
        """Open a stream."""
        access: Access = request.app.state.access
        if self.watcher.is_away:
            stream.put(AWAY)
        self.streams.open(stream)
        messages = stream.messages(lambda: access.is_good(caller))
        return StreamResponse(messages, lambda: self.streams.close(stream))


async def _events(request: Request) -> Events:
    return request.app.state.events


async def _cursor(
    after: Annotated[
        str | None,
        Query(max_length=_LONGEST_CURSOR, description="The `id` of the last message received."),
    ] = None,
    last_event_id: Annotated[str | None, Header(max_length=_LONGEST_CURSOR)] = None,
) -> str | None:
    return last_event_id or after


_Events = Annotated[Events, Depends(_events)]
Cursor = Annotated[str | None, Depends(_cursor)]
"""The position of a client that goes on after a break."""


@router.get("/events", response_class=StreamResponse, status_code=_OK)
async def events(request: Request, caller: Reader, all_: _Events, cursor: Cursor) -> Response:
    """The changes of one's own jobs or, with the scope read-all, of all jobs, as they happen."""
    user = caller.token.user
    all_.streams.admit(user)
    await all_.watcher.start()
    all_.streams.admit(user)  # once more: others may have come meanwhile
    stream = Stream(user, lambda entry: caller.may_see(entry.change.tags))
    for entry in all_.missed(stream, cursor):
        stream.take(entry)
    return all_.respond(request, caller, stream)


@router.get("/jobs/{job}/events", response_class=StreamResponse, status_code=_OK)
async def job_events(
    request: Request, caller: Reader, client: Client, all_: _Events, cursor: Cursor, job: UUID
) -> Response:
    """The state of a job, then its changes as they happen; the stream ends with the job.

    Who has received the last one already gets 204.
    """
    user = caller.token.user
    all_.streams.admit(user)
    await find_visible(client, caller, job)
    await all_.watcher.start()
    now = await all_.watcher.observe(client, decisive_attempt(await known_attempts(client, job)))
    assert now is not None  # find_visible has found a job
    if now.outcome and cursor and cursor.endswith(_ended(job)):
        return Response(status_code=_NO_CONTENT)
    all_.streams.admit(user)  # once more: others may have come meanwhile
    stream = Stream(user, lambda entry: entry.change.job == now.job, ends_with_job=True)
    for entry in all_.missed(stream, cursor):
        stream.take(entry)
    if cursor is None or stream.is_reset or (now.outcome and not stream.is_over):
        is_journaled = all_.known.is_journaled(now.job)
        if now.outcome and cursor and not stream.is_reset and is_journaled:
            return Response(status_code=_NO_CONTENT)
        # A place in the journal does not say whether a state was received that is not in it.
        own = "" if is_journaled or not now.outcome else _ended(job)
        stream.put(message(now, f"{all_.journal.head}{own}"), last=now.outcome is not None)
    return all_.respond(request, caller, stream)


def _ended(job: UUID) -> str:
    """The end of a cursor whose client knows that a job has ended."""
    return f".{job}"
