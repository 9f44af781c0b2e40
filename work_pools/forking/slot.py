"""The fork server of a container: one run at a time, with a clean container for each.

    python -m work_pools.entrypoint.run --standby

stdin is a pipe that the worker holds open; each line of it requests a run. After a run that
succeeded, the server removes its files and processes, writes a report on stdout and waits for the
next request. After a run that did not, and after the one requested as `last`, the container exits
with the run's exit code, as a container with a single run would.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from tasks.settings import SHARED_VARIABLE
from work_pools.forking.child import become, close_stdin
from work_pools.forking.folders import empty
from work_pools.forking.leftovers import kill_children
from work_pools.forking.orphans import adopt_orphans
from work_pools.forking.protocol import MARK, Report, Request, decoded, encoded
from work_pools.forking.sysv_ipc import remove_ipc_objects

_HANDLED = {signal.SIGTERM}
_WRITABLE = (Path("/tmp"), Path("/dev/shm"), Path("/dev/mqueue"))  # by any job
_CHUNK = 65536  # bytes read at once


def serve_runs() -> Callable[[], None]:
    """Fork a process for each requested run.

    Returns in each fork, which is then the run's process, a function to call once the run has
    succeeded. The server itself never returns: it raises SystemExit.
    """
    adopt_orphans()
    return _Slot().serve()


class _Slot:
    def __init__(self) -> None:
        self._received = b""
        self._running: int | None = None
        self._served = 0
        signal.signal(signal.SIGTERM, self._forward)

    def serve(self) -> Callable[[], None]:
        """See serve_runs."""
        while line := self._line():
            request: Request = decoded(line)
            signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
            succeeded, success = os.pipe()
            self._running = os.fork()
            if not self._running:
                os.close(succeeded)
                if self._served or not request.get("last"):
                    request["variables"][SHARED_VARIABLE] = "true"
                become(request, _HANDLED)
                close_stdin()
                return partial(_report_success, success)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            os.close(success)
            self._wait_for_end(request, succeeded)
        sys.exit(0)

    def _wait_for_end(self, request: Request, succeeded: int) -> None:
        """Wait for the end of the run. Returns where this container can serve another run."""
        assert self._running
        _, status, usage = os.wait4(self._running, 0)
        self._running = None
        code = os.waitstatus_to_exitcode(status)
        kill_children()
        well = os.read(succeeded, 1)  # all writers are dead: it does not block
        os.close(succeeded)
        if code or not well or request.get("last"):
            sys.exit(code if code >= 0 else 128 - code)
        try:
            for folder in _WRITABLE:
                empty(folder)
        except OSError as error:
            print(f"this container serves no further run: {error}", file=sys.stderr)
            sys.exit(code)
        remove_ipc_objects()
        self._served += 1
        peak = usage.ru_maxrss * 1024
        _report({"event": "ended", "run": request["run"], "code": code, "peak_memory": peak})

    def _line(self) -> bytes:
        """The line of the next request; empty where the worker is gone."""
        while b"\n" not in self._received:
            chunk = os.read(sys.stdin.fileno(), _CHUNK)
            if not chunk:
                return b""
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _forward(self, number: int, frame: FrameType | None) -> None:
        """Send SIGTERM on to the run; without a run, exit."""
        if self._running is None:
            sys.exit(128 + number)
        with suppress(ProcessLookupError):
            os.kill(self._running, number)


def _report_success(pipe: int) -> None:
    os.write(pipe, b"1")


def _report(report: Report) -> None:
    os.write(sys.stdout.fileno(), MARK + encoded(report))
