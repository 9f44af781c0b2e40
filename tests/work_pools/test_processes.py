"""Which processes a supervisor finds and stops."""

import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from uuid import UUID, uuid4

import psutil
import pytest

from tasks.settings import RUN_VARIABLE
from tests.support.platform import PATIENCE
from work_pools.supervisor.infrastructure.processes import Processes

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


_JOB = "import time; print(flush=True); time.sleep(3600)"


@contextmanager
def job() -> Generator[tuple[UUID, subprocess.Popen[bytes]]]:
    """A process like that of a job, killed at the end."""
    run = uuid4()
    command = [sys.executable, "-c", _JOB, "work_pools.entrypoint.run"]
    environment = {**os.environ, RUN_VARIABLE: str(run)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield run, process
        finally:
            process.kill()


async def test_a_job_is_stopped_although_the_clock_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Processes("the-worker", "process")
    with job() as (run, process):
        (instance,) = (await there.find())[run]
        create_time = psutil.Process.create_time

        def moved(own: psutil.Process) -> float:
            return create_time(own) + 1

        monkeypatch.setattr(psutil.Process, "create_time", moved)
        await there.stop(instance, PATIENCE)
        assert not psutil.pid_exists(process.pid)
        await there.stop(instance, PATIENCE)  # it has ended: nothing is done


async def test_a_process_that_was_not_found_is_left_alone() -> None:
    there = Processes("the-worker", "process")
    with job() as (run, process):
        (instance,) = (await there.find())[run]
        await there.remove(replace(instance, run=uuid4()))
        assert psutil.pid_exists(process.pid)
        await there.remove(instance)
        assert not psutil.pid_exists(process.pid)
