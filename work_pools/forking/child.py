"""First steps of a forked process, which turn it into the process of its flow run."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from tasks.settings import RUN_VARIABLE, adopt
from work_pools.forking.protocol import Request

OUT_OF_MEMORY_FIRST = 500
"""Minimum of a run's oom_score_adj (at most 1,000): the kernel kills the run before the server."""
_SCORE = Path("/proc/self/oom_score_adj")


def become(request: Request, handled: set[signal.Signals]) -> None:
    """Turn this fork into the process of the requested run: session, signals, environment, folder.

    `handled`: the signals that the server handles; the fork starts with them blocked.
    """
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in handled:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
    _SCORE.write_text(str(max(OUT_OF_MEMORY_FIRST, int(_SCORE.read_text()))))
    variables = {**request["variables"], RUN_VARIABLE: request["run"]}
    if folder := request.get("folder"):
        os.chdir(folder)
        variables["TMPDIR"] = folder
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed()  # or all runs draw the same numbers; Python's own reseeds at a fork
    tempfile.tempdir = None  # an import may have cached the server's
    adopt(variables)


def close_stdin() -> None:
    """Give the run an empty stdin: the server's stdin is its connection to the worker."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
