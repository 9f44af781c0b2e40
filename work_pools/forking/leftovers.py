"""Processes that a run has left behind when its own process ended."""

import contextlib
import os
import signal
from pathlib import Path

from tasks.settings import RUN_VARIABLE

_SESSION = 3  # among the fields of /proc/PID/stat after the command, counted from 0


def kill_leftovers(run: str, leader: int) -> None:
    """Kill every process of the session that `leader` leads, and every other of the same run.

    One that has left the session still has the run's id in its environment, unless it was started
    with another. Call it before the leader is waited for: until then its number is no other's.
    """
    mark = f"{RUN_VARIABLE}={run}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) in (leader, os.getpid()):
            continue
        with contextlib.suppress(OSError):  # ended just now, or another user's
            after_command = (entry / "stat").read_text().rpartition(")")[2].split()
            same_session = int(after_command[_SESSION]) == leader
            if same_session or mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
