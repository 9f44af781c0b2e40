"""The processes of a worker's jobs: forked by a standby fork server, or started as new ones."""

import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import psutil
from prefect.workers.process import ProcessJobConfiguration

from tasks.settings import RUN_VARIABLE
from work_pools.worker.processes.fork_server import ForkServer
from work_pools.worker.processes.plan import Plan, plan_of
from work_pools.worker.processes.priority import can_raise_priority, lower_priority, raise_priority

_MIN_MEMORY = 512 * 2**20  # bytes that must be available on the host to start a server

_Folder = tempfile.TemporaryDirectory[str]


@dataclass(frozen=True)
class _Job:
    """The process of a run."""

    pid: int
    outcome: Callable[[], int]
    """Waits for the end of the process. Returns its exit code."""
    folder: _Folder | None


class ForkServers:
    """The fork server of one worker, a StandbyManager.

    The server forks a process for each run with the pool's default configuration, and is replaced
    after `runs` of them. Any other run gets a new process, started more cheaply than by Prefect's
    worker, which opens a client and a web socket for each.
    """

    errors = (OSError,)
    """See StandbyManager: the host is out of memory, processes or files."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._server: ForkServer | None = None
        self._serving: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._may_be_low = can_raise_priority()

    def identifier_of(self, instance: str) -> str:
        """See StandbyManager: the pid."""
        return instance

    def take(self, configuration: ProcessJobConfiguration, run: UUID) -> str | None:
        """See StandbyManager."""
        plan, variables = plan_of(configuration)
        if plan is None:
            return None
        # As Prefect's worker does.
        folder = None if plan.folder else tempfile.TemporaryDirectory(suffix="prefect")
        with self._lock:
            server = self._server
            if server is not None and server.serves(plan):
                server.requested += 1
                if server.requested >= self._runs:
                    self._server = None  # it exits after its last run
            else:
                server = None
        try:
            if server is None:
                job = _start_process(plan, run, variables, folder)
            else:
                job = self._fork(server, run, variables, folder)
        except TimeoutError:
            raise  # the run may have a process
        except (OSError, psutil.NoSuchProcess):
            # Prefect's worker then tries, and reports the error.
            if folder:
                folder.cleanup()
            return None
        instance = str(job.pid)
        self._serving[instance] = job
        return instance

    def follow(self, instance: str) -> int:
        """See StandbyManager."""
        job = self._serving[instance]
        try:
            return job.outcome()
        finally:
            del self._serving[instance]
            if job.folder:
                job.folder.cleanup()

    def replenish(self, configuration: ProcessJobConfiguration) -> bool:
        """See StandbyManager. Returns False: one server is enough for all runs."""
        plan, _ = plan_of(configuration)
        with self._lock:
            server = self._server
            if server is not None and plan is not None and server.serves(plan):
                return False
            self._server = None
        if server is not None:
            server.retire()
        if plan is not None and psutil.virtual_memory().available >= _MIN_MEMORY:
            server = ForkServer(plan)
            if self._may_be_low:
                lower_priority(server.process.pid)
            with self._lock:
                self._server = server
        return False

    def remove_leftovers(self, worker: str) -> None:
        """See StandbyManager. Nothing to do: a server exits when its worker's socket closes."""

    def close(self) -> None:
        """See StandbyManager. A server with runs exits after the last of them."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.retire()

    def _fork(
        self, server: ForkServer, run: UUID, variables: Mapping[str, str], folder: _Folder | None
    ) -> _Job:
        if self._may_be_low:
            raise_priority(server.process.pid)
        pid = server.start(run, variables, folder and folder.name)
        if server.requested >= self._runs:
            server.retire()
        return _Job(pid, lambda: server.outcome(run), folder)


def _start_process(
    plan: Plan, run: UUID, variables: Mapping[str, str], folder: _Folder | None
) -> _Job:
    """Start a new process for a run that no fork server can serve."""
    own = {**variables, RUN_VARIABLE: str(run)}
    if folder:
        own["TMPDIR"] = folder.name
    # In its own session, like a fork.
    process = subprocess.Popen(
        plan.command,
        cwd=folder.name if folder else plan.folder,
        env={**plan.environment, **own},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    return _Job(process.pid, process.wait, folder)
