"""Ctrl-C in the first moments of a command: no traceback, however often."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.platform import BIN, wait_until


def catches(process: int) -> bool:
    """Whether a process has a handler for SIGINT now."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (signal.SIGINT - 1) & 1)


def begun(process: int) -> None:
    """Wait until Python is there and our own code imports what it needs."""
    wait_until(lambda: catches(process), what="Python has started", every=0.0005)
    wait_until(lambda: not catches(process), what="it imports", every=0.0005)


def imported(process: int) -> None:
    """Wait until the command has everything, or soon will."""
    begun(process)
    wait_until(lambda: catches(process), what="it has imported", every=0.0005)


@pytest.mark.parametrize("moment", [begun, imported])
def test_no_traceback_is_printed(moment: Callable[[int], None], tmp_path: Path) -> None:
    environment = os.environ | {"PREFECTURE_HOME": str(tmp_path)}
    up = subprocess.Popen(
        [BIN / "prefecture", "up", "--pool", "process", "--port", "1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        moment(up.pid)
        for _ in range(2):
            os.kill(up.pid, signal.SIGINT)
        output, _ = up.communicate(timeout=240)
    finally:
        up.kill()
        up.wait()
    assert "Traceback" not in output
    assert up.returncode in (0, -signal.SIGINT, 128 + signal.SIGINT), output
