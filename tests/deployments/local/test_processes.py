"""A child that prints without end: its log stays short, and a disk that is full harms no one."""

import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from deployments.local import processes
from deployments.local.processes import Child
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
    await child.stop()
    lines = log.read_text().splitlines()
    assert int(lines[-2]) - int(lines[1]) == len(lines) - 3, "it goes on at the new end"
    assert int(lines[-2]) > int(before.read_text().splitlines()[-2])


async def test_a_log_that_cannot_be_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []
    told: list[str] = []

    def full(*names: object) -> None:
        tried.append(names)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    monkeypatch.setattr(processes, "_LOG_MOST", 10)
    monkeypatch.setattr(processes, "_LOG_LOOK", 0.05)
    program = "import time; print('x' * 100, flush=True); time.sleep(600)"
    child = Child(
        *("sleeper", [sys.executable, "-c", program]),
        *(dict(os.environ), tmp_path / "child.log", told.append),
    )
    await child.start()
    await asyncio.to_thread(wait_until, lambda: len(tried) > 2)
    assert told == [
        f"the log of the sleeper cannot be cut: [Errno {errno.ENOSPC}] "
        f"{os.strerror(errno.ENOSPC)}; trying again"
    ]
    await child.stop()
    await asyncio.sleep(1.5)  # longer than the pause before a restart
    assert not child.running, "it is ended, and not started again"
    assert len(told) == 1
