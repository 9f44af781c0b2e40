"""Which requests the embedded server answers: by host name, and by the page that sent them."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from deployments.serving.same_origin import SameOrigin


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


async def talk(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("answered")
    await socket.close()


def guarded() -> SameOrigin:
    routes = [Route("/", answer, methods=["GET", "POST", "OPTIONS"]), WebSocketRoute("/ws", talk)]
    return SameOrigin(Starlette(routes=routes), ["Jobs.example.org"])


ANSWERED = [
    {"host": "127.0.0.1:4200"},
    {"host": "localhost:4200"},
    {"host": "LOCALHOST"},
    {"host": "[::1]:4200"},
    {"host": "host.docker.internal:4200"},
    {"host": "jobs.example.org"},
    {"host": "127.0.0.1:4200", "origin": "http://127.0.0.1:4200"},
    {"host": "localhost:4200", "origin": "http://LocalHost:4200"},
    {"host": "jobs.example.org", "origin": "https://jobs.example.org"},
    {"host": "127.0.0.1:4200", "origin": "https://jobs.example.org"},
]
REFUSED = [
    (421, {"host": "rebound.example.org:4200"}),
    (421, {"host": "127.0.0.1.example.org"}),
    (421, {"host": "jobs.example.org.evil.example"}),
    (421, {"host": "evil.example/@127.0.0.1"}),
    (421, {"host": "127.0.0.1@evil.example"}),
    (421, {"host": "[::1"}),
    (421, {"host": ""}),
    (421, {"host": "evil.example", "origin": "http://evil.example"}),
    (403, {"host": "127.0.0.1:4200", "origin": "https://evil.example"}),
    (403, {"host": "127.0.0.1:4200", "origin": "null"}),
    (403, {"host": "127.0.0.1:4200", "origin": ""}),
    (403, {"host": "127.0.0.1:4200", "origin": "http://127.0.0.1:3000"}),
    (403, {"host": "127.0.0.1:4200", "origin": "http://localhost:4200"}),
    (403, {"host": "127.0.0.1:4200", "origin": "http://[::1"}),
    (403, {"host": "127.0.0.1:4200", "origin": "https://jobs.example.org.evil.example"}),
]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("headers", ANSWERED, ids=str)
async def test_request_is_answered(method: str, headers: dict[str, str]) -> None:
    assert (await request(method, headers)).text == "answered"


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize(("status", "headers"), REFUSED, ids=str)
async def test_request_is_refused(method: str, status: int, headers: dict[str, str]) -> None:
    response = await request(method, headers)
    assert response.status_code == status
    assert "access-control-allow-origin" not in response.headers
    assert response.text.count("\n") == 1


async def request(method: str, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(app=guarded())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:4200") as client:
        return await client.request(method, "/", headers=headers)


@pytest.mark.parametrize("headers", ANSWERED, ids=str)
async def test_websocket_is_opened(headers: dict[str, str]) -> None:
    opened, said, closed = await listen(headers)
    assert (opened["type"], closed["type"]) == ("websocket.accept", "websocket.close")
    assert said["text"] == "answered"


@pytest.mark.parametrize("headers", [headers for _, headers in REFUSED], ids=str)
async def test_websocket_is_refused(headers: dict[str, str]) -> None:
    (closed,) = await listen(headers)
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)


async def listen(headers: dict[str, str]) -> list[Message]:
    """What the server sends to a client that opens a websocket."""
    sent: list[Message] = []
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: Scope = {"type": "websocket", "path": "/ws", "headers": raw, "subprotocols": []}

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await guarded()(scope, receive, send)
    return sent
