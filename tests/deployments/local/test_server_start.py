"""How `up` waits for its server: for as long as it lives, however slow the machine."""

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deployments.local import up
from deployments.local.processes import Child
from tasks.errors import OperatorError
from tests.support.platform import free_port

# Answers once a file is there, which stands for all that a server does before.
ANSWERS = """
import http.server, pathlib, sys, time
while not pathlib.Path(sys.argv[2]).exists():
    time.sleep(0.05)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
ENDS = "import sys; sys.exit('no such table')"


@asynccontextmanager
async def a_child(folder: Path, program: str, *words: str) -> AsyncGenerator[Child]:
    argv = [sys.executable, "-c", program, *words]
    child = Child("server", argv, dict(os.environ), folder / "server.log", print)
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


async def test_a_slow_one_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "_SERVER_SLOW", 0.0)
    port, ready = free_port(), tmp_path / "ready"
    said: list[str] = []

    def say(message: str) -> None:
        said.append(message)
        ready.touch()

    async with a_child(tmp_path, ANSWERS, str(port), str(ready)) as child:
        await up.until_healthy(child, "Prefect server", f"http://127.0.0.1:{port}/api/health", say)
    assert said == [
        f"the Prefect server is slow to start; waiting for it (see {tmp_path}/server.log)"
    ]


async def test_one_that_ends_says_why(tmp_path: Path) -> None:
    async with a_child(tmp_path, ENDS) as child:
        with pytest.raises(OperatorError, match="does not start:\nno such table"):
            await up.until_healthy(
                child, "Prefect server", f"http://127.0.0.1:{free_port()}/api/health", print
            )


async def test_one_that_never_answers_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(up, "_SERVER_START", 0.5)
    port = free_port()
    async with a_child(tmp_path, ANSWERS, str(port), str(tmp_path / "never")) as child:
        with pytest.raises(OperatorError, match=r"has not answered for .* see .*server\.log"):
            await up.until_healthy(
                child, "Prefect server", f"http://127.0.0.1:{port}/api/health", print
            )
