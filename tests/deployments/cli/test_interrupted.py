"""Ctrl-C in the first moments of a command: no traceback, however often."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.platform import BIN, wait_until

# Python runs this when it starts. It holds the import of Prefect for as long as a file is there.
SITE = """
import sys, time
from pathlib import Path
class Hold:
    def find_spec(self, name, path=None, target=None):
        if name == "prefect":
            sys.meta_path.remove(self)
            (held := Path({held!r})).touch()
            while held.exists():
                time.sleep(0.01)
sys.meta_path.insert(0, Hold())
"""


def catches(process: int) -> bool:
    """Whether a process has a handler for SIGINT now."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask.split()[1], 16) >> (signal.SIGINT - 1) & 1)


def begun(process: int, held: Path) -> None:
    """Wait until our own code imports what it needs."""
    wait_until(held.exists, what="it imports")
    assert not catches(process)


def imported(process: int, held: Path) -> None:
    """Wait until the command has everything, or soon will."""
    begun(process, held)
    held.unlink()
    wait_until(lambda: catches(process), what="it has imported")


@pytest.mark.parametrize("moment", [begun, imported])
def test_no_traceback_is_printed(moment: Callable[[int, Path], None], tmp_path: Path) -> None:
    held, site = tmp_path / "held", tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE.format(held=str(held)))
    environment = os.environ | {"PREFECTURE_HOME": str(tmp_path / "home"), "PYTHONPATH": str(site)}
    up = subprocess.Popen(
        [BIN / "prefecture", "up", "--pool", "process", "--port", "1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        moment(up.pid, held)
        for _ in range(2):
            os.kill(up.pid, signal.SIGINT)
        output, _ = up.communicate(timeout=240)
    finally:
        up.kill()
        up.wait()
    assert "Traceback" not in output
    assert up.returncode in (0, -signal.SIGINT, 128 + signal.SIGINT), output
