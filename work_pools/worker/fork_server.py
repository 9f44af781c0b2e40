"""A fork server as its worker sees it: asked for runs, and heard of them."""

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
from work_pools.worker.process_plan import Plan

_PATIENCE = 120.0  # seconds in which a fork must have begun: the server may be importing still
_KILLED = -9  # the code of a run whose server has died: nobody else has been told its own


class ForkServer:
    """A process of `plan` that forks one for each run. It prints where the worker does.

    Raises OSError where it cannot be started.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.asked = 0
        """For how many runs."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            # In a group of its own: Ctrl-C at the terminal of a worker is for the worker, which
            # waits for its jobs.
            self.process = subprocess.Popen(
                [*plan.command, FORK_SERVER],
                cwd=plan.folder,
                env={**plan.environment, RUN_VARIABLE: str(NO_RUN)},
                stdin=theirs.fileno(),
                process_group=0,
            )
        self._heard = threading.Condition()
        self._begun: dict[str, int] = {}  # processes by run
        self._ended: dict[str, int] = {}  # exit codes by run
        self._gone = False
        threading.Thread(target=self._listen, daemon=True, name="fork-server").start()

    def serves(self, plan: Plan) -> bool:
        """Whether it can be asked for a run of that plan."""
        return self.plan == plan and not self._gone and self.process.poll() is None

    def start(self, run: UUID, variables: Mapping[str, str], folder: str | None) -> int:
        """Have a process forked for a run. Returns its pid.

        `folder`: where it works; where the server does where none is named.
        Raises OSError where the server is gone, and TimeoutError, an OSError too, where it does not
        answer: it is killed then, for it may not serve the run any later.
        """
        request = Request(run=str(run), variables=dict(variables))
        if folder is not None:
            request["folder"] = folder
        self._socket.sendall(encoded(request))
        key = str(run)
        with self._heard:
            known = self._heard.wait_for(
                lambda: key in self._begun or key in self._ended or self._gone, _PATIENCE
            )
        if not known:
            self.kill()
            raise TimeoutError(f"the fork server {self.process.pid} does not answer")
        if key not in self._begun:
            raise ChildProcessError(f"the fork server {self.process.pid} started no process")
        return self._begun[key]

    def outcome(self, run: UUID) -> int:
        """Wait for the end of a run that was started. Returns its exit code."""
        key = str(run)
        with self._heard:
            self._heard.wait_for(lambda: key in self._ended or self._gone)
            pid = self._begun.pop(key)
            if key in self._ended:
                return self._ended.pop(key)
        _wait_for(pid)
        return _KILLED

    def retire(self) -> None:
        """Take no more runs. The server ends after the last one that it has."""
        with contextlib.suppress(OSError):  # it has died, and the socket is closed
            self._socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End the server, not its runs."""
        self.process.kill()
        self.process.wait()

    def _listen(self) -> None:
        with self._socket.makefile("rb") as lines:
            try:
                for line in lines:
                    self._hear(decoded(line))
            except ConnectionResetError:
                pass  # it was killed with a request unread
        with self._heard:
            self._gone = True
            self._heard.notify_all()
        self.process.wait()
        self._socket.close()

    def _hear(self, report: Report) -> None:
        with self._heard:
            if "pid" in report:
                self._begun[report["run"]] = report["pid"]
            if "code" in report:
                self._ended[report["run"]] = report["code"]
            self._heard.notify_all()


def _wait_for(pid: int) -> None:
    """Wait for the end of a process that is no child of this one, and that its new parent may
    never wait for."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([process], [], [])
    finally:
        os.close(process)
