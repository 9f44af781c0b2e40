"""Database servers that are started for as long as a block runs."""

import subprocess
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.platform import wait_until


@contextmanager
def running(
    name: str, command: Sequence[str], log: Path, answers: Callable[[], bool]
) -> Generator[None]:
    """A server that answers, ended with the block, whoever is still connected to it."""
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd="/")
    try:
        wait_until(answers, 60, f"{name} answers, see {log}")
        yield
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()
