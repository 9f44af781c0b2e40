"""The processes of a worker's jobs: forked by a server that waits, or started anew."""

import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import psutil
from prefect.workers.process import ProcessJobConfiguration

from tasks.settings import RUN_VARIABLE
from work_pools.worker.fork_server import ForkServer
from work_pools.worker.priority import can_raise_priority, lower_priority, raise_priority
from work_pools.worker.process_plan import Plan, plan_of

_ROOM = 512 * 2**20  # bytes of memory that the host must have to spare for a server

_Folder = tempfile.TemporaryDirectory[str]


@dataclass(frozen=True)
class _Job:
    """The process of a run."""

    pid: int
    outcome: Callable[[], int]
    """Waits for its end. Returns its exit code."""
    folder: _Folder | None


class ForkServers:
    """The fork server that one worker keeps: see Waiting.

    It forks for every run whose configuration is the pool's own, `runs` of them before another
    takes its place. Any other is started anew, which costs less than as Prefect's worker starts it:
    with a client and a web socket of its own.
    """

    errors = (OSError,)
    """See Waiting: no memory, no process, no file is left."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._server: ForkServer | None = None
        self._serving: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._may_be_low = can_raise_priority()

    def identifier_of(self, taken: str) -> str:
        """See Waiting: the pid."""
        return taken

    def take(self, configuration: ProcessJobConfiguration, run: UUID) -> str | None:
        """See Waiting."""
        plan, variables = plan_of(configuration)
        if plan is None:
            return None
        # As Prefect's worker does.
        folder = None if plan.folder else tempfile.TemporaryDirectory(suffix="prefect")
        with self._lock:
            server = self._server
            if server is not None and server.serves(plan):
                server.asked += 1
                if server.asked >= self._runs:
                    self._server = None  # it ends after its last run
            else:
                server = None
        try:
            if server is None:
                job = _started(plan, run, variables, folder)
            else:
                job = self._forked(server, run, variables, folder)
        except TimeoutError:
            raise  # it may have a process
        except (OSError, psutil.NoSuchProcess):
            # Prefect's worker tries then, and says what is wrong.
            if folder:
                folder.cleanup()
            return None
        taken = str(job.pid)
        self._serving[taken] = job
        return taken

    def follow(self, taken: str) -> int:
        """See Waiting."""
        job = self._serving[taken]
        try:
            return job.outcome()
        finally:
            del self._serving[taken]
            if job.folder:
                job.folder.cleanup()

    def keep(self, configuration: ProcessJobConfiguration) -> bool:
        """See Waiting. Another server is never missing: one forks for all."""
        plan, _ = plan_of(configuration)
        with self._lock:
            server = self._server
            if server is not None and plan is not None and server.serves(plan):
                return False
            self._server = None
        if server is not None:
            server.retire()
        if plan is not None and psutil.virtual_memory().available >= _ROOM:
            server = ForkServer(plan)
            if self._may_be_low:
                lower_priority(server.process.pid)
            with self._lock:
                self._server = server
        return False

    def remove_left(self, worker: str) -> None:
        """See Waiting: none is left, a server ends with the worker that holds its socket."""

    def close(self) -> None:
        """See Waiting. A server that has runs ends after the last of them."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.retire()

    def _forked(
        self, server: ForkServer, run: UUID, variables: Mapping[str, str], folder: _Folder | None
    ) -> _Job:
        if self._may_be_low:
            raise_priority(server.process.pid)
        pid = server.start(run, variables, folder and folder.name)
        if server.asked >= self._runs:
            server.retire()
        return _Job(pid, lambda: server.outcome(run), folder)


def _started(plan: Plan, run: UUID, variables: Mapping[str, str], folder: _Folder | None) -> _Job:
    """A process for a run that no server fits."""
    own = {**variables, RUN_VARIABLE: str(run)}
    if folder:
        own["TMPDIR"] = folder.name
    # In a session of its own, as a fork is.
    process = subprocess.Popen(
        plan.command,
        cwd=folder.name if folder else plan.folder,
        env={**plan.environment, **own},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return _Job(process.pid, process.wait, folder)
