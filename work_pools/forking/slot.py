"""The fork server of a container: one run at a time, and a container as new for the next.

    python -m work_pools.entrypoint.run --standby

stdin is a pipe that the worker holds open; each line of it asks for a run. After one that ended
well, what it left behind is removed, a report is written on stdout, and the next is awaited. After
any other, and after the last that is asked for, the container exits with the run's own exit code,
like a container that served one run.
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
_WRITABLE = (Path("/tmp"), Path("/dev/shm"), Path("/dev/mqueue"))  # beside the results
_CHUNK = 65536  # bytes read at once


def serve_runs() -> Callable[[], None]:
    """Fork for each run that is asked for.

    Returns in each fork, which is the run's process from then on, and calls what is returned once
    its run has ended well. The server itself ends with SystemExit.
    """
    adopt_orphans()
    return _Slot().serve()


class _Slot:
    def __init__(self) -> None:
        self._received = b""
        self._running: int | None = None
        self._served = 0
        signal.signal(signal.SIGTERM, self._pass_on)

    def serve(self) -> Callable[[], None]:
        """See serve_runs."""
        while line := self._line():
            request: Request = decoded(line)
            signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
            ended_well, well = os.pipe()
            self._running = os.fork()
            if not self._running:
                os.close(ended_well)
                if self._served or not request.get("last"):
                    request["variables"][SHARED_VARIABLE] = "true"
                become(request, _HANDLED)
                close_stdin()
                return partial(_say_so, well)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
            os.close(well)
            self._see_to_its_end(request, ended_well)
        sys.exit(0)

    def _see_to_its_end(self, request: Request, ended_well: int) -> None:
        """Wait for the end of the run. Returns where another may follow."""
        assert self._running
        _, status, usage = os.wait4(self._running, 0)
        self._running = None
        code = os.waitstatus_to_exitcode(status)
        kill_children()
        well = os.read(ended_well, 1)  # nobody is left to write: it does not wait
        os.close(ended_well)
        if code or not well or request.get("last"):
            sys.exit(code if code >= 0 else 128 - code)
        try:
            for folder in _WRITABLE:
                empty(folder)
        except OSError as error:
            print(f"this container serves no other run: {error}", file=sys.stderr)
            sys.exit(code)
        remove_ipc_objects()
        self._served += 1
        peak = usage.ru_maxrss * 1024
        _report({"event": "ended", "run": request["run"], "code": code, "peak_memory": peak})

    def _line(self) -> bytes:
        """The next request; empty where the worker is gone."""
        while b"\n" not in self._received:
            chunk = os.read(sys.stdin.fileno(), _CHUNK)
            if not chunk:
                return b""
            self._received += chunk
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM is for the run; where there is none, for the server."""
        if self._running is None:
            sys.exit(128 + number)
        with suppress(ProcessLookupError):
            os.kill(self._running, number)


def _say_so(pipe: int) -> None:
    os.write(pipe, b"1")


def _report(report: Report) -> None:
    os.write(sys.stdout.fileno(), MARK + encoded(report))
