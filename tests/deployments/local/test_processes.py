"""A child that prints without end, hangs, or keeps ending, and a disk that is full."""

import asyncio
import errno
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from deployments.local import processes
from deployments.local.processes import Child, pause_after
from tests.support.platform import wait_until

COUNT = "import itertools\nfor n in itertools.count(): print(n, flush=True)"


async def test_a_long_log_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 100_000
    monkeypatch.setattr(processes, "_LOG_MOST", most)
    monkeypatch.setattr(processes, "_LOG_LOOK", 0.05)
    log = tmp_path / "child.log"
    child = Child("counter", [sys.executable, "-c", COUNT], dict(os.environ), log, print)
    await child.start()
    before = log.with_suffix(".log.1")
    wait = asyncio.to_thread
    await wait(wait_until, lambda: before.exists() and before.stat().st_size > most)
    await wait(wait_until, lambda: log.stat().st_size > 1000)
    await child.stop()  # in the middle of another cut perhaps
    older = sorted(tmp_path.glob("child.log.*"), reverse=True)
    # The first and the last line of each may be parts of one.
    parts = [[*map(int, path.read_text().splitlines()[1:-1])] for path in (*older, log)]
    assert all(part == [*range(part[0], part[-1] + 1)] for part in parts if part)
    numbers = [number for part in parts for number in part]
    assert numbers == sorted(set(numbers)), "it goes on at the new end"
    assert sum(1 for part in parts if part) >= 2


async def test_a_log_that_cannot_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    said: list[str] = []

    def full(*names: object) -> None:
        tried.append(names)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(processes, "_LOG_MOST", 10)
    monkeypatch.setattr(processes, "_LOG_LOOK", 0.05)
    program = "import time; print('x' * 100, flush=True); time.sleep(600)"
    child = Child(
        *("sleeper", [sys.executable, "-c", program]),
        *(dict(os.environ), tmp_path / "child.log", said.append),
    )
    await child.start()
    await asyncio.to_thread(wait_until, lambda: len(tried) > 2)
    assert said == [
        f"the log of the sleeper cannot be cut: [Errno {errno.ENOSPC}] "
        f"{os.strerror(errno.ENOSPC)}; retrying"
    ]
    await child.stop()
    await asyncio.sleep(1.5)  # longer than the pause before a restart
    assert not child.running, "it is ended, and not started again"
    assert len(said) == 1


BEATS = """
import os, sys, time
print(os.getpid(), flush=True)
while True:
    os.write(int(sys.argv[2]), b".")
    time.sleep(0.01)
"""


async def test_a_child_that_hangs_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_BEAT_LOOK", 0.05)
    monkeypatch.setattr(processes, "_BEATS_MISSED", 40)
    log, said = tmp_path / "child.log", list[str]()
    argv = [sys.executable, "-c", BEATS]
    child = Child("beater", argv, dict(os.environ), log, said.append, heartbeat=True)
    await child.start()

    def pids() -> list[int]:
        return [int(line) for line in log.read_text().split()]

    try:
        await asyncio.to_thread(wait_until, pids)
        assert child.running
        os.kill(pids()[-1], signal.SIGSTOP)
        await asyncio.to_thread(wait_until, lambda: len(pids()) > 1)
        assert said[0].startswith("the beater has sent no heartbeat for ")
        assert "the beater ended with -9" in said[1]
    finally:
        await child.stop()


def test_a_pause_is_not_held_against_a_child_that_ran_on() -> None:
    pause, pauses = 0.0, list[float]()
    for ran in (300.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 31.0, 0.1):
        pause = pause_after(ran, pause)
        pauses.append(pause)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 1, 2]
