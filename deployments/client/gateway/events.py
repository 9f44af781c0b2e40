"""A gateway's server-sent events: heard again from where the connection broke."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import httpx

from deployments.client.gateway.requests import Refused, Requests
from deployments.client.gateway.transfers import Patience
from deployments.jobs.records import LONGEST_OUTAGE

OPEN, END, LOST = "open", "end", "lost"
"""Events of our own: the stream is connected; the gateway has ended it; it is not connected."""
_SILENCE = httpx.Timeout(45.0, connect=10.0)  # seconds; the gateway sends something every 15
_NO_CONTENT = 204  # all was heard


@dataclass
class Message:
    """One message."""

    event: str = ""
    data: str = ""
    id: str = ""
    lines: list[str] = field(default_factory=list[str], repr=False)


async def listen(requests: Requests, path: str) -> AsyncGenerator[Message]:
    """The messages of a stream, until the gateway says that there are no more.

    Ten minutes without a gateway are waited out. Raises PrefectureError where it refuses, and
    ServerUnavailable.
    """
    patience, cursor = Patience(LONGEST_OUTAGE), ""
    while True:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        error = None
        try:
            async with requests.stream(path, headers=headers, timeout=_SILENCE) as response:
                if response.status_code == _NO_CONTENT:
                    return
                yield Message(OPEN)
                async with aclosing(_messages(response.aiter_bytes())) as messages:
                    async for message in messages:
                        patience.renew()
                        cursor = message.id or cursor
                        if message.event:
                            yield message
            yield Message(END)
        except httpx.HTTPError as lost:
            error = requests.unavailable(lost)
        except Refused as refused:
            if not refused.is_passing:
                raise refused.error() from None
            yield Message(LOST)
            if await refused.is_over(patience):
                raise refused.error() from None
            continue
        yield Message(LOST)
        if not await patience.rest():
            raise error or requests.unavailable(httpx.ReadError("it ends every stream of events"))


async def _messages(chunks: AsyncIterator[bytes]) -> AsyncGenerator[Message]:
    """The messages in a stream's bytes, as the standard has them.

    Not by httpx's lines, which also end at characters that may be in a text.
    """
    message, rest = Message(), b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.removesuffix(b"\r").decode(errors="replace")
            name, _, value = text.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "event":
                    message.event = value
                case "id":
                    message.id = value
                case "data":
                    message.lines.append(value)
                case "" if not text:
                    message.data = "\n".join(message.lines)
                    yield message
                    message = Message()
                case _:
                    pass  # a comment, or what a later version sends
