"""Servers for as long as a block runs, which end with the tests, however those end."""

import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.migrated import put_database
from tests.support.platform import BIN, PATIENCE, ends_with_us, free_port, is_ready, wait_until


@contextmanager
def running(
    name: str, command: Sequence[str], log: Path, answers: Callable[[], bool]
) -> Generator[subprocess.Popen[bytes]]:
    """A server that answers. It ends with the block, even while clients are connected."""
    with log.open("wb") as output:
        server = subprocess.Popen(ends_with_us(*command), stdout=output, stderr=output, cwd="/")
    try:
        wait_until(
            lambda: answers() or server.poll() is not None, what=f"{name} answers, see {log}"
        )
        assert server.poll() is None, log.read_text(errors="replace")
        yield server
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(PATIENCE)
        server.kill()
        server.wait()


@contextmanager
def stock_server(folder: Path) -> Generator[str]:
    """The API of a server of Prefect's own, which keeps what it has in a folder.

    It sends no telemetry. Its settings are those of the environment.
    """
    put_database(folder)
    port = free_port()
    with stock_server_at(port, folder):
        yield f"http://127.0.0.1:{port}/api"


@contextmanager
def stock_server_at(port: int, folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """A server as `stock_server` starts it, at a port, with what the folder has already."""
    api = f"http://127.0.0.1:{port}/api"
    own = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    settings = [f"{name}={value}" for name, value in (own | {"DO_NOT_TRACK": "1"}).items()]
    start = ("server", "start", "--host", "127.0.0.1", "--port", str(port))
    command = ("/usr/bin/env", *settings, str(BIN / "prefect"), *start)
    log = folder / "server.log"
    with running("a stock server", command, log, lambda: is_ready(api)) as server:
        yield server
