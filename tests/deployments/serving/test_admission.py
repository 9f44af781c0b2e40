"""What the embedded server does for clients that hold connections and do not use them."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prefect.server.api.server import create_app
from prefect.settings import (
    PREFECT_HOME,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from deployments.server.request_limit import take_limit
from deployments.serving import admission
from deployments.serving.admission import Admission


class Client:
    """One client of an ASGI application: what it sends, and what it gets."""

    def __init__(self, app: Admission, kind: str, path: str) -> None:
        self._app = app
        self._scope: Scope = {"type": kind, "path": path, "headers": [], "subprotocols": []}
        self._scope |= {"method": "POST", "query_string": b"", "root_path": ""}
        self._sent: asyncio.Queue[Message] = asyncio.Queue()
        self.got: asyncio.Queue[Message] = asyncio.Queue()
        self.reads = asyncio.Event()
        """Cleared for a client that reads nothing."""
        self.reads.set()
        self._served: asyncio.Task[None] | None = None

    def send(self, **message: Any) -> None:
        """Send a message, as ASGI has it."""
        self._sent.put_nowait(message)

    def body(self, part: bytes, more: bool = False) -> None:
        """Send a part of a request's body."""
        self.send(type="http.request", body=part, more_body=more)

    async def receive(self) -> Message:
        """The next message from the application."""
        return await asyncio.wait_for(self.got.get(), 60)

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of a response."""
        status = (await self.receive())["status"]
        return status, (await self.receive())["body"]

    def connect(self) -> None:
        async def send(message: Message) -> None:
            self.got.put_nowait(message)
            await self.reads.wait()

        self._served = asyncio.create_task(self._app(self._scope, self._sent.get, send))

    async def close(self) -> None:
        if self._served is not None:
            self._served.cancel()
            await asyncio.gather(self._served, return_exceptions=True)


@asynccontextmanager
async def clients(
    requests: int = 2, largest: int = admission.LARGEST_BODY
) -> AsyncGenerator[Callable[..., Client]]:
    """Connects clients to a server that handles so many requests at a time, of so many bytes."""

    async def echo(request: Request) -> PlainTextResponse:
        return PlainTextResponse(await request.body())

    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    routes = [Route("/", echo, methods=["POST"]), WebSocketRoute("/ws", talk)]
    app = Admission(Starlette(routes=routes), requests, largest)
    all_: list[Client] = []

    def client(kind: str = "http", path: str = "/") -> Client:
        all_.append(Client(app, kind, path))
        all_[-1].connect()
        return all_[-1]

    yield client
    for one in all_:
        await one.close()


async def test_a_body_in_parts_arrives_whole() -> None:
    async with clients() as client:
        one = client()
        one.body(b"a", more=True)
        one.body(b"b" * 100_000, more=True)
        one.body(b"c")
        assert await one.answer() == (200, b"a" + b"b" * 100_000 + b"c")


async def test_bodies_that_do_not_end_hold_nobody_up() -> None:
    async with clients() as client:
        for _ in range(50):
            client().body(b"a", more=True)
        other = client()
        other.body(b"an answer")
        assert await other.answer() == (200, b"an answer")


async def test_clients_that_read_nothing_hold_nobody_up() -> None:
    async with clients() as client:
        for _ in range(50):
            slow = client()
            slow.reads.clear()
            slow.body(b"unread")
            await slow.receive()
        other = client()
        other.body(b"an answer")
        assert await other.answer() == (200, b"an answer")


async def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "BODY_TIME", 0.01)
    async with clients() as client:
        slow = client()
        slow.body(b"a", more=True)
        status, reason = await slow.answer()
        assert status == 408
        assert b"did not arrive" in reason


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with clients(largest=10) as client:
        large = client()
        large.body(b"a" * 6, more=True)
        large.body(b"a" * 6, more=True)
        assert await large.answer() == (413, b"the request is larger than 10 bytes\n")
        just = client()
        just.body(b"a" * 10)
        assert (await just.answer())[0] == 200


async def test_memory_for_bodies_is_bounded_and_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_MEMORY", 10)
    async with clients() as client:
        first = client()
        first.body(b"a" * 8, more=True)
        second = client()
        second.body(b"a" * 8)
        status, reason = await second.answer()
        assert status == 503
        assert reason.count(b"\n") == 1
        first.body(b"")
        assert (await first.answer())[0] == 200
        third = client()
        third.body(b"a" * 8)
        assert (await third.answer())[0] == 200


async def test_a_client_that_goes_in_the_middle_of_its_body_is_forgotten() -> None:
    async with clients(requests=1) as client:
        gone = client()
        gone.body(b"a", more=True)
        gone.send(type="http.disconnect")
        other = client()
        other.body(b"an answer")
        assert await other.answer() == (200, b"an answer")
        assert gone.got.empty()


async def test_idle_websockets_count_as_no_requests() -> None:
    async with clients() as client:
        for _ in range(50):
            idle = client("websocket", "/ws")
            idle.send(type="websocket.connect")
            assert (await idle.receive())["type"] == "websocket.accept"
        other = client()
        other.body(b"an answer")
        assert await other.answer() == (200, b"an answer")


async def test_of_too_many_websockets_the_silent_are_closed_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(admission, "MOST_SOCKETS", 2)

    async def opened(client: Callable[..., Client]) -> Client:
        one = client("websocket", "/ws")
        one.send(type="websocket.connect")
        assert (await one.receive())["type"] == "websocket.accept"
        return one

    async def says(one: Client, text: str) -> None:
        one.send(type="websocket.receive", text=text)
        assert (await one.receive())["text"] == text

    async with clients() as client:
        speaks = await opened(client)
        await says(speaks, "first")
        silent = await opened(client)
        third = await opened(client)
        closed = await silent.receive()
        assert (closed["type"], closed["code"]) == ("websocket.close", 1013)
        await says(third, "third")
        await says(speaks, "again")

        fourth = client("websocket", "/ws")
        fourth.send(type="websocket.connect")
        refused = await fourth.receive()
        assert (refused["type"], refused["code"]) == ("websocket.close", 1013)
        await says(speaks, "still here")


def test_the_limit_of_prefects_server_is_taken_from_it(tmp_path: Path) -> None:
    database = f"sqlite+aiosqlite:///{tmp_path}/prefect.db"
    own: dict[Any, Any] = {PREFECT_HOME: tmp_path, PREFECT_SERVER_DATABASE_CONNECTION_URL: database}
    with temporary_settings(own):
        app = create_app(final=True, ignore_cache=True)
    assert take_limit(app) == 100
    assert take_limit(app) is None
