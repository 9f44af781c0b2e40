"""Removal of the processes and temporary files that are left when a run's process has ended."""

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

from tasks.settings import RUN_VARIABLE

# Indexes among the fields of /proc/PID/stat that follow the command.
_PARENT, _SESSION = 1, 3


def temporary_prefix(run: str) -> str:
    """How the name of a run's own folder of temporary files begins."""
    return f"prefecture-{run}-"


def remove_temporary_folders(run: str) -> None:
    """Remove the folder of temporary files of a run, with what a killed run has left in it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{temporary_prefix(run)}*"):
        shutil.rmtree(folder, ignore_errors=True)


def kill_leftovers(run: str, leader: int) -> None:
    """Kill every process of the session that `leader` leads, and every other process of the run.

    A process outside the session is found by the run's id in its environment, unless it was started
    with another environment. Call this before the leader is waited for: until then no other process
    can have its pid.
    """
    variable = f"{RUN_VARIABLE}={run}".encode()
    for pid, fields in _processes():
        with contextlib.suppress(OSError):  # ended just now, or another user's
            same_session = int(fields[_SESSION]) == leader
            if pid != leader and (same_session or variable in _environment(pid)):
                os.kill(pid, signal.SIGKILL)


def kill_children() -> None:
    """Kill and wait for children of this process until there are none.

    Where this process adopts orphans, this kills every descendant: each becomes a child in turn.
    """
    while True:
        for pid, fields in _processes():
            if int(fields[_PARENT]) == os.getpid():
                os.kill(pid, signal.SIGKILL)
        try:
            os.wait()
        except ChildProcessError:
            return


def _processes() -> Generator[tuple[int, list[str]]]:
    """Every other process: its pid, and the fields of its /proc/PID/stat after the command."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # ended just now
                stat = (entry / "stat").read_text()
                yield int(entry.name), stat.rpartition(")")[2].split()


def _environment(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
