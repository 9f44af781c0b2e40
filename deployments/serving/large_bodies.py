"""Moves large bodies between sockets and files in threads, past the server's own way of doing so.

On that way each piece of a body goes from the socket through asyncio, h11 and uvicorn to the
application: several copies and two changes of threads for 64 to 256 KiB, about half of the time of
an upload. Here a thread moves as much as the socket has or takes, and the event loop only waits.
Small bodies, and connections with TLS, go the ordinary way.

uvicorn takes a protocol class as its option `http`; the attributes used of its own one are not
documented, and nothing else of the project uses them. tests/deployments/serving/
test_large_bodies.py fails where they move.
"""

import asyncio
import os
import select
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar, cast

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

SLOW = 2**14
"""Bytes between two pauses of a thread: for a connection that moves less it does not wait."""
PAUSES = 256
"""Pauses of a thread before it serves another connection."""
_PATHSEND = "http.response.pathsend"
"""The extension of ASGI for whole files, which Starlette's FileResponse uses."""
_RECEIVING = "prefecture.receive_body"
"""Our own extension: a `ReceiveBody`."""
_BUFFER = 2**20  # bytes that are received before they are written
_TURN = 16 * 2**20  # bytes for which a thread stays with one connection
_AT_ONCE = 8  # threads
_PAUSE = 5  # ms for which a thread waits for a fast connection, before the event loop does
_T = TypeVar("_T")
_threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="bodies")


class ReceiveBody(Protocol):
    """Receives the body of a request. See `receive_body`."""

    async def __call__(self, write: Callable[[memoryview], object], silence: float) -> int: ...


def receive_body(scope: Scope) -> ReceiveBody | None:
    """What receives the body of a request; None where its length is not known, or there is TLS.

    `write` is called in a thread with each piece, whose memory is used again afterwards. Returns
    how many bytes have arrived: less than Content-Length where the client has gone. Raises
    TimeoutError after `silence` seconds without a byte, and what `write` raises. Where the body is
    large, the connection is closed after the response.
    """
    return scope.get("extensions", {}).get(_RECEIVING)


class LargeBodies(H11Protocol):
    """uvicorn's protocol, with both extensions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._inner = cast(ASGIApp, self.app)
        self.app = self._call  # pyright: ignore[reportAttributeAccessIssue]  # uvicorn's own types

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.scheme == "http":
            exchange = _Exchange(self, _length(scope), receive, send)
            offered: dict[str, Any] = {_PATHSEND: {}}
            if exchange.length is not None:
                offered[_RECEIVING] = exchange.receive_body
            scope["extensions"] = scope.get("extensions", {}) | offered
            send = exchange.send
        await self._inner(scope, receive, send)


class _Exchange:
    """One request and its response."""

    def __init__(
        self, protocol: H11Protocol, length: int | None, receive: Receive, send: Send
    ) -> None:
        self.length = length
        """Bytes of the request's body; None where it does not say it."""
        self._protocol = protocol
        self._cycle = protocol.cycle
        self._receive = receive
        self._send = send
        self._answered = 0
        """Bytes of the response's body."""
        self._is_taken = False
        """Whether bytes of the request have not gone through h11, so that no other may follow."""

    async def receive_body(self, write: Callable[[memoryview], object], silence: float) -> int:
        """See ReceiveBody. The beginning comes as a message: often that is all."""
        length = self.length or 0
        async with asyncio.timeout(silence):
            message = await self._receive()
        if message["type"] == "http.disconnect":
            return 0
        # Nothing more is read by the event loop. What it has read comes first.
        self._protocol.flow.pause_reading()
        first = message["body"] + bytes(self._cycle.body)
        self._cycle.body.clear()
        await _in_thread(write, memoryview(first))
        arrived = len(first)
        if arrived >= length or not self._cycle.more_body:
            self._protocol.flow.resume_reading()
            return arrived
        self._is_taken = True
        buffer = memoryview(bytearray(_BUFFER))

        def receive(socket: int, done: int) -> Turn:
            return _receive_some(socket, write, buffer, length - done)

        return await self._move(select.POLLIN, arrived, length, receive, silence)

    async def send(self, message: Message) -> None:
        """Send a message of the response, which may be a whole file."""
        if message["type"] == "http.response.start":
            headers = dict(message.get("headers", []))
            self._answered = int(headers.get(b"content-length", 0))
            if self._is_taken:
                message = {**message, "headers": [*message.get("headers", []), CLOSE_HEADER]}
        elif message["type"] == _PATHSEND:
            if not await self._send_file(message["path"]):
                self._protocol.transport.abort()
                await asyncio.sleep(0)  # until uvicorn knows it
                return
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)

    async def _send_file(self, path: str) -> bool:
        """Send the body. Returns False where it was not possible to its end."""
        length = self._answered
        async with self._emptied(), _opened(path) as file:
            if self._cycle.disconnected:
                return False
            # h11 counts the bytes, and is given none of them.
            counted = h11.Data(data=cast(bytes, _Length(length)))
            self._protocol.conn.send_with_data_passthrough(counted)

            def send(socket: int, done: int) -> Turn:
                return _send_some(socket, file, done, length)

            return await self._move(select.POLLOUT, 0, length, send) == length

    async def _move(
        self,
        what: int,
        done: int,
        length: int,
        move: Callable[[int, int], "Turn"],
        silence: float | None = None,
    ) -> int:
        """Move what is left of `length` bytes, turn by turn. Returns how many are done: all, unless
        the connection or the file has ended. `what`: the event of `poll` that is waited for."""
        if self._cycle.disconnected:
            return done
        with self._socket() as socket, _watched(socket, what) as ready:
            while done < length and not self._cycle.disconnected:
                async with asyncio.timeout(silence):
                    await ready()
                turn = await _in_thread(move, socket, done)
                done += turn.bytes
                if turn.is_end:
                    break
        return done

    @asynccontextmanager
    async def _emptied(self) -> AsyncGenerator[None]:
        """Wait until what was written before, such as headers, is in the socket."""
        transport = self._protocol.transport
        transport.set_write_buffer_limits(high=0)
        try:
            await self._protocol.flow.drain()
        finally:
            transport.set_write_buffer_limits()
        yield

    @contextmanager
    def _socket(self) -> Generator[int]:
        """A second descriptor of the connection: asyncio lets nobody else use its own one."""
        socket = os.dup(self._protocol.transport.get_extra_info("socket").fileno())
        try:
            yield socket
        finally:
            os.close(socket)


def _length(scope: Scope) -> int | None:
    """The Content-Length of a request, which h11 has checked, unless it comes in chunks."""
    headers = dict(scope["headers"])
    if b"transfer-encoding" in headers or b"content-length" not in headers:
        return None
    return int(headers[b"content-length"])


class _Length:
    """Stands for bytes that are sent otherwise."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class Turn:
    """What a thread moves for one connection before it serves the next. `is_end`: whether no more
    can follow."""

    def __init__(self) -> None:
        self.bytes = 0
        self.is_end = False
        self._pauses = 0
        self._at_pause = 0

    def goes_on(self, socket: int, what: int, moved: int) -> bool:
        """Pause for a connection that is fast; whether it is ready then. `moved`: bytes so far."""
        if moved - self._at_pause < SLOW or self._pauses == PAUSES:
            return False
        self._at_pause = moved
        self._pauses += 1
        poll = select.poll()
        poll.register(socket, what)
        return bool(poll.poll(_PAUSE))


def _receive_some(
    socket: int, write: Callable[[memoryview], object], buffer: memoryview, left: int
) -> Turn:
    """Write what has arrived, until nothing more comes for a moment."""
    turn = Turn()
    most, filled, is_idle = min(left, _TURN), 0, False
    while turn.bytes + filled < most and not (turn.is_end or is_idle):
        room = buffer[filled : most - turn.bytes]
        try:
            count = os.readv(socket, [room])
            filled += count
            turn.is_end = not count
        except BlockingIOError:
            is_idle = not turn.goes_on(socket, select.POLLIN, turn.bytes + filled)
        except ConnectionError:
            turn.is_end = True
        if filled == len(buffer) or turn.is_end or is_idle or turn.bytes + filled == most:
            write(buffer[:filled])
            turn.bytes += filled
            filled = 0
    return turn


def _send_some(socket: int, file: int, offset: int, length: int) -> Turn:
    """Send from a file, until the connection takes nothing more for a moment."""
    turn = Turn()
    most = min(length - offset, _TURN)
    while turn.bytes < most and not turn.is_end:
        try:
            count = os.sendfile(socket, file, offset + turn.bytes, most - turn.bytes)
            turn.bytes += count
            turn.is_end = not count  # the file is shorter than it was
        except BlockingIOError:
            if not turn.goes_on(socket, select.POLLOUT, turn.bytes):
                break
        except ConnectionError:
            turn.is_end = True
    return turn


@contextmanager
def _watched(socket: int, what: int) -> Generator[Callable[[], Awaitable[None]]]:
    """Gives what waits until a connection has bytes or takes some, or is broken."""
    loop = asyncio.get_running_loop()
    add, remove = (
        (loop.add_reader, loop.remove_reader)
        if what == select.POLLIN
        else (loop.add_writer, loop.remove_writer)
    )

    async def ready() -> None:
        event = asyncio.Event()
        add(socket, event.set)
        try:
            await event.wait()
        finally:
            remove(socket)

    yield ready


@asynccontextmanager
async def _opened(path: str) -> AsyncGenerator[int]:
    file = await _in_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


async def _in_thread(work: Callable[..., _T], *args: Any) -> _T:
    """Do it in a thread, and wait for its end even where the request is cancelled: it uses
    descriptors that are closed then."""
    loop = asyncio.get_running_loop()
    doing = asyncio.ensure_future(loop.run_in_executor(_threads, lambda: work(*args)))
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise
