"""What a supervisor sees of processes that are not its own user's."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager

import pytest

_NOBODY = 65534
# As whom, before they do anything; imports come first: the tree may be readable to root alone.
_WAIT = "import os, sys; os.setuid(int(sys.argv[1])); print(flush=True); sys.stdin.read()"
_FIND = f"""
import asyncio, os
from tasks.errors import EngineUnavailable
from work_pools.supervisor.infrastructure.processes import Processes
os.setuid({_NOBODY})
try:
    print(dict(asyncio.run(Processes("the-worker", "process").find())))
except EngineUnavailable as error:
    print(error)
"""


@contextmanager
def waiting(user: int, *words: str) -> Generator[None]:
    """A process with these words in its command, of a user."""
    command = [sys.executable, "-c", _WAIT, str(user), *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        try:
            yield
        finally:
            process.stdin.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be someone else")
@pytest.mark.parametrize(
    ("worker", "seen"),
    [(_NOBODY, "{}"), (0, "is a job of another user: run worker")],
)
def test_a_job_of_another_user_counts_where_our_worker_is_theirs(worker: int, seen: str) -> None:
    with (
        waiting(0, "work_pools.entrypoint.run"),
        waiting(worker, "work_pools.worker", "the-worker", "process"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", _FIND], capture_output=True, text=True, check=True
        )
    assert seen in done.stdout
