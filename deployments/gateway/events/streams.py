"""The open streams of events: their bounds, and what each still has to send."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from fastapi import HTTPException
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from deployments.gateway.events.journal import Entry

MOST = 2_000
"""Streams that are open at once, of all users."""
MOST_BEHIND = 1_000
"""Messages that a client may be behind before its stream is cut off."""
PING = 15.0
"""Seconds without a message after which a comment is sent."""
STALLED = 60.0
"""Seconds after which a stream is cut off whose client takes nothing."""
_TOO_MANY, _UNAVAILABLE = 429, 503
_PAUSE = "30"  # seconds after which a client may try again
# A proxy must not keep it.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
AWAY = format_sse_event(event="away", data_str="{}")
"""The server does not answer: what the client shows may be old."""
BACK = format_sse_event(event="back", data_str="{}")
"""The server answers again. What changed meanwhile follows."""


class Stream:
    """One open stream. `sees`: whether a change is of its business; `ends_with_job`: whether it
    ends after the final state of a job."""

    def __init__(
        self, user: str, sees: Callable[[Entry], bool], *, ends_with_job: bool = False
    ) -> None:
        self.user = user
        self.sees = sees
        self.is_reset = False
        """Whether the client was told to read its list anew."""
        self.is_over = False
        """Whether the last message is put."""
        self._ends_with_job = ends_with_job
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()

    def take(self, entry: Entry) -> None:
        """Send a change."""
        self.put(entry.message, last=self._ends_with_job and entry.change.outcome is not None)

    def put(self, message: bytes, *, last: bool = False) -> None:
        """Send a message. `last`: the stream ends after it."""
        if self.is_over:
            return
        if len(self._waiting) > MOST_BEHIND:
            self._waiting.clear()
            self.end()
        else:
            self._waiting.append(message)
            self.is_over = last
        self._news.set()

    def end(self) -> None:
        """Send what is waiting, and nothing more."""
        self.is_over = True
        self._news.set()

    async def messages(self, is_admitted: Callable[[], bool]) -> AsyncGenerator[bytes]:
        """What is to be sent, until the last message, or until the client is cut off.

        `is_admitted`: whether the token is still good, asked every few seconds.
        """
        clock = asyncio.get_running_loop().time
        asked = clock()
        while True:
            self._news.clear()
            while self._waiting:
                yield self._waiting.popleft()
            if self.is_over:
                return
            try:
                await asyncio.wait_for(self._news.wait(), PING)
            except TimeoutError:
                yield KEEPALIVE_COMMENT
            if clock() - asked >= PING:
                asked = clock()
                if not is_admitted():
                    return


class Places:
    """Bounds how many streams are open. `most_of_user`: of one user; `most`: of all."""

    def __init__(self, most_of_user: int, most: int) -> None:
        self._most_of_user = most_of_user
        self._most = most
        self._by_user = Counter[str]()
        self.closing = asyncio.Event()
        """Set where the gateway is about to stop."""

    def admit(self, user: str) -> None:
        """Raise HTTPException where a user may not open one more: 429, or 503 if nobody may."""
        if self._by_user[user] >= self._most_of_user:
            raise HTTPException(
                _TOO_MANY,
                f"{user} has {self._most_of_user} streams open: close some first",
                {"Retry-After": _PAUSE},
            )
        if self._by_user.total() >= self._most:
            raise HTTPException(
                _UNAVAILABLE,
                f"{self._most:,} streams are open: try again later",
                {"Retry-After": _PAUSE},
            )

    def take(self, user: str) -> None:
        """Count a stream."""
        self._by_user[user] += 1

    def free(self, user: str) -> None:
        """Count a stream no more."""
        self._by_user[user] -= 1
        if not self._by_user[user]:
            del self._by_user[user]


class Streams:
    """All open streams of events. `places`: bounds how many there are."""

    def __init__(self, places: Places) -> None:
        self.admit = places.admit
        self._places = places
        self._open: set[Stream] = set()
        self._idle_since = 0.0

    @property
    def idle_for(self) -> float:
        """Seconds for which there has been no stream."""
        return 0.0 if self._open else asyncio.get_running_loop().time() - self._idle_since

    def open(self, stream: Stream) -> None:
        """Count a stream, and let it have what comes."""
        self._open.add(stream)
        self._places.take(stream.user)

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        self._open.remove(stream)
        self._places.free(stream.user)
        self._idle_since = asyncio.get_running_loop().time()

    def end_all(self) -> None:
        """End all streams: the gateway is about to stop."""
        for stream in self._open:
            stream.end()

    def publish(self, entry: Entry) -> None:
        """Send a change to those whom it concerns."""
        for stream in self._open:
            if stream.sees(entry):
                stream.take(entry)

    def tell_all(self, message: bytes) -> None:
        """Send a message to everybody."""
        for stream in self._open:
            stream.put(message)


class StreamResponse(StreamingResponse):
    """Sends the messages of a stream until it ends, its client has gone, or takes nothing.

    FastAPI's own class for server-sent events has no bound on the time of a client that takes
    nothing.
    """

    media_type = EventSourceResponse.media_type

    def __init__(
        self,
        messages: AsyncGenerator[bytes],
        at_end: Callable[[], None],
        media_type: str | None = None,
    ) -> None:
        super().__init__(messages, headers=_HEADERS, media_type=media_type)
        self._messages = messages
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette's Response."""
        try:
            sending = asyncio.ensure_future(self._send(send))
            gone = asyncio.ensure_future(self.listen_for_disconnect(receive))
            try:
                await asyncio.wait({sending, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sending, gone):
                    task.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
                await self._messages.aclose()
        finally:
            self._at_end()

    async def _send(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        with suppress(OSError):  # the client has gone
            async for message in self._messages:
                await _within(send, message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _within(send: Send, body: bytes) -> None:
    async with asyncio.timeout(STALLED):
        await send({"type": "http.response.body", "body": body, "more_body": True})
