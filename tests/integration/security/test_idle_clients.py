"""Clients that hold connections and do not use them, while jobs go on."""

import base64
import resource
import secrets
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.platform import PATIENCE, Platform
from tests.support.session.environment import PASSWORD

# Each kind alone would take all hundred requests that Prefect's server handles at a time.
IDLE, SLOW, DEAF, SILENT = 2000, 150, 150, 150


@pytest.fixture
def many_files() -> Generator[None]:
    """As many open files as the host allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def connected(platform: Platform, number: int, *lines: str) -> Generator[list[socket.socket]]:
    """So many connections, each with the head of a request."""
    host = f"127.0.0.1:{platform.port}"
    given = f"Authorization: Basic {base64.b64encode(PASSWORD.encode()).decode()}"
    head = "\r\n".join([*lines, f"Host: {host}", given, "", ""]) if lines else ""
    with ExitStack() as open_:
        made = [
            open_.enter_context(socket.create_connection(("127.0.0.1", platform.port), PATIENCE))
            for _ in range(number)
        ]
        for one in made:
            one.sendall(head.encode())
        yield made


@pytest.mark.usefixtures("many_files")
def test_jobs_go_on(process_platform: Platform) -> None:
    up = process_platform
    key = base64.b64encode(secrets.token_bytes(16)).decode()
    upgrade = ("GET /api/events/out HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade")
    with (
        connected(up, IDLE),
        connected(up, SLOW, "POST /api/flows/filter HTTP/1.1", "Content-Length: 1000") as slow,
        connected(up, DEAF, "GET /openapi.json HTTP/1.1"),
        connected(
            *(up, SILENT, *upgrade, "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}"),
            "Sec-WebSocket-Protocol: prefect",
        ) as silent,
    ):
        for one in slow:
            one.sendall(b"{")
        for one in silent:
            assert one.recv(64).startswith(b"HTTP/1.1 101 ")
        job = up.submit_job("find-primes/normal", {"upper_bound": 100}, "beside-idle-clients")
        up.completed(job, "beside-idle-clients")
        assert up.rest("GET", "/health").json() is True
