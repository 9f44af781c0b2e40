"""What a second host of a platform would run: a worker, with a supervisor beside it."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.platform import PATIENCE, Platform, ends_with_us
from tests.support.processes import supervisor, worker

OTHER = "prefecture-elsewhere-00000001"
"""The name of its worker."""
MARK = "PREFECTURE_WORKER"


def copy_of(
    process: psutil.Process, log: Path, *words: str, **settings: str
) -> subprocess.Popen[bytes]:
    """A process as this one, with the name of the other host's worker, with more arguments and
    settings of its own."""
    name = process.environ()[MARK].partition("/")[0]
    environment = {key: value.replace(name, OTHER) for key, value in process.environ().items()}
    with log.open("wb") as output:
        return subprocess.Popen(
            ends_with_us(*(word.replace(name, OTHER) for word in process.cmdline()), *words),
            cwd=process.cwd(),
            env=environment | settings,
            stdout=output,
            stderr=output,
        )


@contextmanager
def other_host(
    platform: Platform, logs: Path, **settings: str
) -> Generator[list[subprocess.Popen[bytes]]]:
    """The processes of another host, killed at the end where they still run."""
    started = [
        copy_of(worker(platform), logs / "worker.log", **settings),
        copy_of(supervisor(platform), logs / "supervisor.log", **settings),
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(PATIENCE)
