"""What is said of a server that does not do what it is asked, by a real one."""

import http.server
import threading
from collections.abc import Generator

import pytest

from deployments.connection import connect
from tasks.errors import ServerUnavailable


class _Closed(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A server that wants a password."""
    with http.server.HTTPServer(("127.0.0.1", 0), _Closed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/api"
        monkeypatch.setenv("PREFECT_API_URL", address)
        yield address
        server.shutdown()
        thread.join()


async def test_password_that_is_missing_is_named(closed: str) -> None:
    with pytest.raises(ServerUnavailable) as refused:
        async with connect() as client:
            await client.read_work_pools()
    said = str(refused.value)
    assert said.startswith(f"the Prefect server at {closed} wants a password")
    assert "PREFECT_API_AUTH_STRING" in said
    assert "\n" not in said
