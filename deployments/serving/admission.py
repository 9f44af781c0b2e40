"""Keeps a server answering while clients hold connections that they do not use.

A request counts from the end of its body to the beginning of its response, and websockets have a
bound of their own.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

BODY_TIME = 60.0
"""Seconds in which the whole body of a request must have arrived."""
LARGEST_BODY = 64 * 2**20
"""Bytes of a request's body: a hundred jobs with the longest parameters fit in it."""
MOST_SOCKETS = 1000
"""Websockets that are open at once. A worker, its supervisor and its notifier have five."""

_MEMORY = 512 * 2**20  # bytes of all bodies that are being received
_TIMEOUT, _TOO_LARGE, _BUSY = 408, 413, 503
_TRY_AGAIN_LATER = 1013  # in the registry of RFC 6455


class Admission:
    """ASGI middleware: bounds what the application handles at once.

    `requests`: how many requests; None for any number. `largest`: bytes of a request's body.
    `streamed`: whether a request is passed on before its body has arrived, and does not count.
    """

    def __init__(
        self,
        app: ASGIApp,
        requests: int | None,
        largest: int = LARGEST_BODY,
        streamed: Callable[[Scope], bool] = lambda _: False,
    ) -> None:
        self._app = app
        self._largest = largest
        self._streamed = streamed
        self._turns = asyncio.Semaphore(requests or sys.maxsize)
        self._received = 0  # bytes of bodies that are being received or handled
        self._sockets: dict[_Socket, None] = {}  # in the order in which they were opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive a request's body, and handle the request in its turn; or serve a websocket."""
        match scope["type"]:
            case "http" if not self._streamed(scope):
                await self._handle(scope, receive, send)
            case "websocket":
                await self._serve(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        try:
            if await self._receive_in_time(body, receive):
                await self._handle_in_turn(scope, replayed(bytes(body), receive), send)
        except _Refused as refused:
            await refused.response(scope, receive, send)
        finally:
            self._received -= len(body)

    async def _receive_in_time(self, body: bytearray, receive: Receive) -> bool:
        try:
            async with asyncio.timeout(BODY_TIME):
                return await self._receive_body(body, receive)
        except TimeoutError:
            reason = f"the request's body did not arrive in {BODY_TIME:.0f} s"
            raise _Refused(_TIMEOUT, reason) from None

    async def _receive_body(self, body: bytearray, receive: Receive) -> bool:
        """Add the whole body to `body`. Returns False where the client has gone. Raises
        _Refused."""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            part = message.get("body", b"")
            if len(body) + len(part) > self._largest:
                reason = f"the request is larger than {self._largest:,} bytes"
                raise _Refused(_TOO_LARGE, reason)
            if self._received + len(part) > _MEMORY:
                reason = "the server receives too many large requests: try again"
                raise _Refused(_BUSY, reason, {"Retry-After": "1"})
            body += part
            self._received += len(part)
            if not message.get("more_body", False):
                return True

    async def _handle_in_turn(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._turns.acquire()
        has_turn = True

        def end_turn() -> None:
            nonlocal has_turn
            if has_turn:
                has_turn = False
                self._turns.release()

        async def send_after_turn(message: Message) -> None:
            end_turn()  # a client that reads slowly must not hold it
            await send(message)

        try:
            await self._app(scope, receive, send_after_turn)
        finally:
            end_turn()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(self._sockets) >= MOST_SOCKETS and not self._evict():
            refusal = WebSocketClose(_TRY_AGAIN_LATER, f"{MOST_SOCKETS} websockets are open")
            return await refusal(scope, receive, send)
        socket = _Socket(receive, send)
        self._sockets[socket] = None
        try:
            await self._app(scope, socket.receive_unless_evicted, socket.send_unless_evicted)
        finally:
            self._sockets.pop(socket, None)

    def _evict(self) -> bool:
        """Close the websocket that has been silent for longest. Returns False where none is."""
        silent = next((socket for socket in self._sockets if socket.is_silent), None)
        if silent is None:
            return False
        del self._sockets[silent]
        silent.evicted.set()
        return True


class _Refused(Exception):
    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        # The rest of the body is not read: the connection cannot serve another request.
        self.response = PlainTextResponse(
            f"{reason}\n", status, {"Connection": "close"} | dict(headers or {})
        )


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns a whole body, and after it what `receive` returns."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Message:
        return next(messages, None) or await receive()

    return receive_again


@dataclass(eq=False)
class _Socket:
    """A websocket that is open."""

    receive: Receive
    send: Send
    is_silent: bool = True
    """Whether its client has sent nothing since it was opened."""
    evicted: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive_unless_evicted(self) -> Message:
        if not self.is_silent:
            return await self.receive()
        receiving = asyncio.ensure_future(self.receive())
        evicted = asyncio.ensure_future(self.evicted.wait())
        try:
            await asyncio.wait({receiving, evicted}, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                message = receiving.result()
                self.is_silent = message["type"] != "websocket.receive"
                return message
        finally:
            receiving.cancel()
            evicted.cancel()
        reason = f"{MOST_SOCKETS} websockets are open, and this one has sent nothing"
        await self.send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": reason})
        return {"type": "websocket.disconnect", "code": _TRY_AGAIN_LATER, "reason": reason}

    async def send_unless_evicted(self, message: Message) -> None:
        if not self.evicted.is_set():
            await self.send(message)
