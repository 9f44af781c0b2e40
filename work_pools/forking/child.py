"""What a fork does first: it becomes the process of its flow run."""

import os
import signal
import sys
import tempfile
from pathlib import Path

from tasks.settings import RUN_VARIABLE, adopt
from work_pools.forking.protocol import Request

OUT_OF_MEMORY_FIRST = 500
"""The least /proc/PID/oom_score_adj of a run, of 1,000: the kernel kills it before the server."""
_SCORE = Path("/proc/self/oom_score_adj")


def become(request: Request, handled: set[signal.Signals]) -> None:
    """Leave what is the server's behind, and take over the run.

    `handled`: the signals that the server handles, blocked until here.
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
        numpy_random.seed()  # as Python's own does at a fork: no two runs draw the same
    tempfile.tempdir = None  # asked for anew: an import may have asked before
    adopt(variables)


def close_stdin() -> None:
    """Give the run an empty stdin: the server's is its connection to the worker."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, sys.stdin.fileno())
    os.close(nothing)
