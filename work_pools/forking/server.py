"""The fork server of the pool `process`: many runs at once.

    python -m work_pools.entrypoint.run --fork-server

Python, Prefect and the libraries of most tasks are loaded once. A fork shares their memory and
starts work after some milliseconds, where a new process would import for a second. Libraries that
start threads or open connections are imported after the fork: Linux copies only the calling thread,
and a lock that another thread holds would stay locked.

stdin is a socket to the worker. Each line that the worker sends requests a run. Each fork reports
its start on the socket, and the server reports its exit code. When the worker is gone, the server
exits after its last run.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Generator
from types import FrameType

from work_pools.forking.child import become, close_stdin
from work_pools.forking.leftovers import kill_leftovers, remove_temporary_folders
from work_pools.forking.orphans import adopt_orphans
from work_pools.forking.protocol import Report, Request, decoded, encoded

_HANDLED = {signal.SIGCHLD}
_CHUNK = 65536  # bytes read at once


def serve_runs() -> bool:
    """Fork a process for each requested run.

    Returns True in each fork, which is then the run's process; False in the server, once the
    worker has closed the socket and the last run has ended.
    """
    return _Server().serve()


class _Server:
    def __init__(self) -> None:
        self._worker = socket.socket(fileno=os.dup(0))
        self._runs: dict[int, str] = {}  # by process
        self._received = b""
        self._connected = True

    def serve(self) -> bool:
        """See serve_runs."""
        adopt_orphans()
        with _pipe_written_at(_HANDLED) as woken:
            while self._connected or self._runs:
                ready, _, _ = select.select(
                    [woken, *([self._worker] if self._connected else [])], [], []
                )
                if woken in ready:
                    os.read(woken, _CHUNK)
                    self._reap()
                if self._worker in ready and self._serve_requests():
                    return True
        return False

    def _serve_requests(self) -> bool:
        """Read the worker's requests, and fork for each. Returns whether this process is a fork."""
        try:
            chunk = self._worker.recv(_CHUNK)
        except ConnectionResetError:
            chunk = b""  # the worker was killed before it read all reports
        self._connected = bool(chunk)
        *lines, self._received = (self._received + chunk).split(b"\n")
        return any(self._fork(decoded(line)) for line in lines)

    def _fork(self, request: Request) -> bool:
        """Fork the process of a run. Returns whether this process is the fork."""
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
                remove_temporary_folders(run)
            _, status, usage = os.wait4(pid, 0)
            if run is not None:
                code = os.waitstatus_to_exitcode(status)
                peak = usage.ru_maxrss * 1024
                self._report({"event": "ended", "run": run, "code": code, "peak_memory": peak})

    def _report(self, report: Report) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the worker is gone
            self._worker.sendall(encoded(report))


def _ended_child() -> int | None:
    """The pid of a child that has ended and is not waited for yet; None for none."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None  # there is no child
    return ended.si_pid if ended else None


@contextlib.contextmanager
def _pipe_written_at(signals: set[signal.Signals]) -> Generator[int]:
    """A pipe that becomes readable after one of these signals."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _nothing)  # an ignored signal would not write to the pipe
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Signal handler that does nothing: the wakeup pipe alone is used."""
