"""Large bodies over real connections to a real server: whole, broken off, silent, too slow."""

import asyncio
import hashlib
import itertools
import logging
import os
import select
import socket
import ssl
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from deployments.serving.large_bodies import PAUSES, SLOW, LargeBodies, Turn, receive_body
from tests.support.platform import wait_until
from tests.support.web.certificates import server_context

LARGE = 24 * 2**20 + 17
PATIENCE = 120  # seconds


class Site:
    """A server that keeps what is sent, and sends one file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "file"
        self.received: list[int] = []
        self.silence = float(PATIENCE)
        self.fails_at: int | None = None
        self.offered: list[bool] = []
        self.is_late = False
        """Whether a file is sent to those only who have gone."""
        self.ended = 0
        """Downloads."""
        self.server: uvicorn.Server
        self.port = 0

    async def put(self, request: Request) -> Response:
        digest, size = hashlib.sha256(), 0

        def write(some: memoryview) -> None:
            nonlocal size
            digest.update(some)
            size += len(some)
            if self.fails_at is not None and size > self.fails_at:
                raise OSError("no space")

        receive = receive_body(request.scope)
        self.offered.append(receive is not None)
        if receive is None:
            body = await request.body()
            return JSONResponse([len(body), hashlib.sha256(body).hexdigest()])
        try:
            self.received.append(await receive(write, self.silence))
        except TimeoutError:
            return JSONResponse("silent", 408)
        except OSError as error:
            return JSONResponse(str(error), 507)
        return JSONResponse([self.received[-1], digest.hexdigest()])

    async def get(self, request: Request) -> Response:
        site = self
        while self.is_late and (await request.receive())["type"] != "http.disconnect":
            pass

        class Counted(FileResponse):
            async def __call__(self, *args: object) -> None:
                try:
                    await super().__call__(*args)  # pyright: ignore[reportArgumentType]
                finally:
                    site.ended += 1

        return Counted(self.file)

    def connect(self) -> closing[HTTPConnection]:
        return closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE))

    def raw(self, text: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        connection.sendall(text.encode())
        return connection

    @contextmanager
    def running(self, **options: Any) -> Generator[None]:
        app = Starlette(
            routes=[Route("/", self.put, methods=["PUT"]), Route("/", self.get, methods=["GET"])]
        )
        config = uvicorn.Config(
            app, port=0, http=LargeBodies, log_config=None, timeout_graceful_shutdown=1, **options
        )
        self.server = uvicorn.Server(config)
        thread = threading.Thread(target=asyncio.run, args=[self.server.serve()])
        thread.start()
        wait_until(lambda: self.server.started, what="the server")
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        try:
            yield
        finally:
            self.server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def site(tmp_path: Path) -> Generator[Site]:
    site = Site(tmp_path)
    with site.running():
        yield site


def put(connection: HTTPConnection, body: bytes) -> tuple[int, object, str | None]:
    connection.request("PUT", "/", body)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.getheader("Connection")


def described(body: bytes) -> bytes:
    return f'[{len(body)},"{hashlib.sha256(body).hexdigest()}"]'.encode()


def test_a_large_body_arrives_whole_and_its_connection_ends(site: Site) -> None:
    body = os.urandom(LARGE)
    with site.connect() as connection:
        assert put(connection, body) == (200, described(body), "close")
    assert site.offered == [True]


def test_small_bodies_share_a_connection(site: Site) -> None:
    with site.connect() as connection:
        for body in (b"", b"small", b"x" * 1000):
            assert put(connection, body) == (200, described(body), None)
        assert len(site.server.server_state.connections) == 1


def test_a_body_in_chunks_comes_as_messages(site: Site) -> None:
    body = os.urandom(2**20)
    with site.connect() as connection:
        connection.request("PUT", "/", iter([body[:5], body[5:]]), encode_chunked=True)
        assert connection.getresponse().read() == described(body)
    assert site.offered == [False]


def test_both_lengths_are_not_mixed_up(site: Site) -> None:
    """Where a request has a length and chunks, the chunks count, as in h11."""
    head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    with site.raw(head + "3\r\nabc\r\n0\r\n\r\n") as connection:
        answer = b""
        while not answer.endswith(described(b"abc")):
            some = connection.recv(2**16)
            assert some
            answer += some
    assert site.offered == [False]


@pytest.mark.parametrize("sent", [0, 10, 2**20 + 3])
def test_a_client_that_goes_leaves_what_has_arrived(site: Site, sent: int) -> None:
    with site.raw(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n") as connection:
        connection.sendall(b"x" * sent)
        wait_until(lambda: site.offered, what="the request")
    wait_until(lambda: site.received, what="its end is seen")
    assert site.received == [sent]
    wait_until(lambda: not site.server.server_state.connections, what="the connection is gone")


def test_a_thread_stays_with_a_connection_as_long_as_it_is_fast() -> None:
    one, other = socket.socketpair()
    with one, other:
        other.sendall(b"x")
        turn = Turn()
        assert not turn.goes_on(one.fileno(), select.POLLIN, moved=SLOW - 1)
        assert turn.goes_on(one.fileno(), select.POLLIN, moved=SLOW)
        assert not turn.goes_on(one.fileno(), select.POLLIN, moved=2 * SLOW - 1)
        moved = (2 * SLOW + n * SLOW for n in itertools.count())
        pauses = itertools.takewhile(
            lambda moved: turn.goes_on(one.fileno(), select.POLLIN, moved), moved
        )
        assert len([*pauses]) == PAUSES - 1
        one.recv(1)
        assert not Turn().goes_on(one.fileno(), select.POLLIN, moved=SLOW)


def test_a_silent_client_is_told(site: Site) -> None:
    site.silence = 0.01
    with site.raw(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\nbegin") as client:
        assert client.recv(2**16).startswith(b"HTTP/1.1 408 ")


def test_an_error_of_the_disk_is_answered(site: Site) -> None:
    site.fails_at = 2**20
    with site.raw(f"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {LARGE}\r\n\r\n") as client:
        client.sendall(b"x" * 2**20)
        client.sendall(b"x")
        assert client.recv(2**16).startswith(b"HTTP/1.1 507 ")


@pytest.mark.parametrize("size", [0, 1, LARGE])
def test_a_file_is_sent_and_its_connection_stays(site: Site, size: int) -> None:
    site.file.write_bytes(os.urandom(size))
    with site.connect() as connection:
        for _ in range(2):
            connection.request("GET", "/")
            answer = connection.getresponse()
            assert answer.read() == site.file.read_bytes()
            assert answer.getheader("Connection") is None
        connection.request("GET", "/", headers={"If-Range": "other", "Range": "bytes=1-2"})
        assert connection.getresponse().read() == site.file.read_bytes()


def test_requests_that_follow_at_once_are_answered_in_order(site: Site) -> None:
    size = 2**20
    site.file.write_bytes(b"y" * size)
    got = bytearray()
    with site.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3) as client:
        while not (got.count(b"HTTP/1.1 200 ") == 3 and got.endswith(b"y" * size)):
            some = client.recv(2**20)
            assert some
            got += some
    assert len(got.split(b"y" * size)) == 4


@pytest.mark.parametrize("read", [0, 2**20])
def test_a_client_that_reads_no_further_and_goes(site: Site, read: int) -> None:
    site.file.write_bytes(os.urandom(LARGE))
    with site.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        for _ in range(read // 2**16):
            client.recv(2**16)
        assert not site.ended
    wait_until(lambda: site.ended == 1, what="its end is seen")
    wait_until(lambda: not site.server.server_state.connections, what="the connection is gone")


def test_a_client_that_has_gone_before_its_answer(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.file.write_bytes(b"y")
    site.is_late = True
    with site.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
        pass
    wait_until(lambda: site.ended == 1, what="the response has ended")
    assert not [each for each in caplog.records if each.levelno >= logging.ERROR]


def test_a_file_that_becomes_shorter_ends_the_connection(site: Site) -> None:
    site.file.write_bytes(os.urandom(LARGE))
    with site.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n") as client:
        client.recv(1, socket.MSG_PEEK)  # it is being sent
        os.truncate(site.file, LARGE // 2)
        size = 0
        with suppress(ConnectionResetError):
            while some := client.recv(2**20):
                size += len(some)
        assert size < LARGE
    wait_until(lambda: site.ended == 1, what="the response has ended")


@pytest.mark.parametrize("request_", ["GET", f"PUT / HTTP/1.1\r\nContent-Length: {LARGE}"])
def test_the_server_ends_while_bodies_move(tmp_path: Path, request_: str) -> None:
    site = Site(tmp_path)
    site.file.write_bytes(os.urandom(LARGE))
    head = request_ if "\r" in request_ else f"{request_} / HTTP/1.1"
    with site.running():
        client = site.raw(f"{head}\r\nHost: x\r\n\r\nbegin")
        if "PUT" in request_:
            wait_until(lambda: site.offered, what="the request")
        else:
            client.recv(1)
    client.close()


def test_with_tls_all_goes_the_ordinary_way(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.file.write_bytes(os.urandom(LARGE))
    _, certificate = server_context(tmp_path)
    key = certificate.with_name("server.key")
    with site.running(ssl_certfile=str(certificate), ssl_keyfile=str(key)):
        trust = ssl.create_default_context(cafile=certificate)
        connection = HTTPSConnection("127.0.0.1", site.port, timeout=PATIENCE, context=trust)
        body = os.urandom(2**20)
        assert put(connection, body) == (200, described(body), None)
        connection.request("GET", "/")
        assert connection.getresponse().read() == site.file.read_bytes()
        connection.close()
    assert site.offered == [False]
