"""The worker's side of a fork server: sends requests for runs, receives reports of them."""

import contextlib
import os
import select
import socket
import subprocess
import threading
from collections.abc import Mapping
from uuid import UUID

from tasks.settings import RUN_VARIABLE
from work_pools.entrypoint.run import FORK_SERVER
from work_pools.forking.protocol import Report, Request, decoded, encoded
from work_pools.standby import NO_RUN
from work_pools.worker.processes.plan import Plan

_START_TIMEOUT = 120.0  # seconds until a fork must start: the server may still be importing
_KILLED = -9  # exit code of a run whose server has died: the real one is lost


class ForkServer:
    """A process of `plan` that forks a process for each run. It shares the worker's stdout.

    Raises OSError where it cannot be started.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requested = 0
        """Number of runs requested so far."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            # In its own process group: Ctrl-C at the worker's terminal must reach only the worker,
            # which then waits for its jobs.
            self.process = subprocess.Popen(
                [*plan.command, FORK_SERVER],
                cwd=plan.folder,
                env={**plan.environment, RUN_VARIABLE: str(NO_RUN)},
                stdin=theirs.fileno(),
                process_group=0,
            )
        self._reported = threading.Condition()
        self._begun: dict[str, int] = {}  # processes by run
        self._ended: dict[str, int] = {}  # exit codes by run
        self._gone = False
        threading.Thread(target=self._read_reports, daemon=True, name="fork-server").start()

    def serves(self, plan: Plan) -> bool:
        """Whether the server is alive and forks runs of that plan."""
        return self.plan == plan and not self._gone and self.process.poll() is None

    def start(self, run: UUID, variables: Mapping[str, str], folder: str | None) -> int:
        """Fork a process for a run. Returns its pid.

        `folder`: its working directory; None for the server's. Raises OSError where the server is
        gone, TimeoutError (an OSError too) where it does not answer. It is then killed, so that it
        cannot start the run later.
        """
        request = Request(run=str(run), variables=dict(variables))
        if folder is not None:
            request["folder"] = folder
        self._socket.sendall(encoded(request))
        key = str(run)
        with self._reported:
            known = self._reported.wait_for(
                lambda: key in self._begun or key in self._ended or self._gone, _START_TIMEOUT
            )
        if not known:
            self.kill()
            raise TimeoutError(f"the fork server {self.process.pid} does not answer")
        if key not in self._begun:
            raise ChildProcessError(f"the fork server {self.process.pid} started no process")
        return self._begun[key]

    def outcome(self, run: UUID) -> int:
        """Wait for the end of a run after `start`. Returns its exit code."""
        key = str(run)
        with self._reported:
            self._reported.wait_for(lambda: key in self._ended or self._gone)
            pid = self._begun.pop(key)
            if key in self._ended:
                return self._ended.pop(key)
        _wait_for(pid)
        return _KILLED

    def retire(self) -> None:
        """Close the server for requests. It exits after its last run."""
        with contextlib.suppress(OSError):  # the server is dead, and the socket closed
            self._socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """Kill the server, not its runs."""
        self.process.kill()
        self.process.wait()

    def _read_reports(self) -> None:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    self._on_report(decoded(line))
            except ConnectionResetError:
                pass  # the server was killed before it read a request
        with self._reported:
            self._gone = True
            self._reported.notify_all()
        self.process.wait()
        self._socket.close()

    def _on_report(self, report: Report) -> None:
        with self._reported:
            if "pid" in report:
                self._begun[report["run"]] = report["pid"]
            if "code" in report:
                self._ended[report["run"]] = report["code"]
            self._reported.notify_all()


def _wait_for(pid: int) -> None:
    """Wait for the end of a process that is not a child of this one."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([process], [], [])
    finally:
        os.close(process)
