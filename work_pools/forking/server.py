"""The fork server of the pool `process`: many runs at once.

    python -m work_pools.entrypoint.run --fork-server

Python, Prefect and the libraries of most tasks are loaded once. A fork shares their memory and is
at work after some milliseconds, where a new process would import for a second. Whatever starts a
thread or opens a connection is imported after the fork: Linux copies the calling thread alone, and
a lock that another holds would stay locked.

stdin is a socket to the worker. Each line of it asks for a run. Each fork says on it that it has
begun, and the server how it has ended. Where the worker is gone, the server ends after its last
run.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Generator
from types import FrameType

from work_pools.forking.child import become, close_stdin
from work_pools.forking.leftovers import kill_leftovers
from work_pools.forking.orphans import adopt_orphans
from work_pools.forking.protocol import Report, Request, decoded, encoded

_HANDLED = {signal.SIGCHLD}
_CHUNK = 65536  # bytes read at once


def serve_runs() -> bool:
    """Fork for each run that is asked for.

    Returns True in each fork, which is the run's process from then on; False in the server, once
    nobody asks any more and the last run has ended.
    """
    return _Server().serve()


class _Server:
    def __init__(self) -> None:
        self._worker = socket.socket(fileno=os.dup(0))
        self._runs: dict[int, str] = {}  # by process
        self._received = b""
        self._open = True

    def serve(self) -> bool:
        """See serve_runs."""
        adopt_orphans()
        with _wakes_at(_HANDLED) as woken:
            while self._open or self._runs:
                ready, _, _ = select.select(
                    [woken, *([self._worker] if self._open else [])], [], []
                )
                if woken in ready:
                    os.read(woken, _CHUNK)
                    self._reap()
                if self._worker in ready and self._begins():
                    return True
        return False

    def _begins(self) -> bool:
        """Read what the worker has sent, and fork. Whether this is a fork."""
        try:
            chunk = self._worker.recv(_CHUNK)
        except ConnectionResetError:
            chunk = b""  # the worker was killed with something unread
        self._open = bool(chunk)
        *lines, self._received = (self._received + chunk).split(b"\n")
        return any(self._forked(decoded(line)) for line in lines)

    def _forked(self, request: Request) -> bool:
        """Start the process of a run. Whether this is that process."""
        run = request["run"]
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        pid = os.fork()
        if pid:
            self._runs[pid] = run
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            return False
        become(request, _HANDLED)
        self._report({"event": "started", "run": run, "pid": os.getpid()})
        self._worker.close()
        close_stdin()
        return True

    def _reap(self) -> None:
        while pid := _ended_child():
            run = self._runs.pop(pid, None)
            if run is not None:
                kill_leftovers(run, pid)
            _, status, usage = os.wait4(pid, 0)
            if run is not None:
                code = os.waitstatus_to_exitcode(status)
                peak = usage.ru_maxrss * 1024
                self._report({"event": "ended", "run": run, "code": code, "peak_memory": peak})

    def _report(self, report: Report) -> None:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # nobody is left to hear it
            self._worker.sendall(encoded(report))


def _ended_child() -> int | None:
    """A child that has ended, and is still to be waited for."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None  # there is no child
    return ended.si_pid if ended else None


@contextlib.contextmanager
def _wakes_at(signals: set[signal.Signals]) -> Generator[int]:
    """A pipe that has something to read after one of these signals."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _nothing)  # ignored, it would wake nobody
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal's handler, where its arrival is all that counts."""
