"""The processes of attempts on this host."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil

from tasks.errors import EngineUnavailable
from tasks.settings import RUN_VARIABLE
from work_pools.standby import NO_RUN
from work_pools.supervisor.infrastructure.instance import Found, Instance
from work_pools.supervisor.infrastructure.threads import in_thread

_ENGINE = "work_pools.entrypoint.run"  # in the command of every job's process
_GONE = 5.0  # seconds in which a killed process must be gone


class Processes:
    """The processes of jobs on this host. A process that has exited cannot be found.

    `worker` and `pool`: the worker that starts the processes.
    """

    def __init__(self, worker: str, pool: str) -> None:
        self._worker = worker
        self._pool = pool
        self._found: dict[tuple[UUID, str], psutil.Process] = {}  # by run and pid

    async def find(self) -> Found:
        """See Instances."""
        return await asyncio.to_thread(self._find)

    async def stop(self, instance: Instance, grace: float) -> None:
        """See Instances."""
        await in_thread(_stop, self._process_of(instance), grace)

    async def remove(self, instance: Instance) -> None:
        """See Instances."""
        await in_thread(_stop, self._process_of(instance), 0.0)

    async def built(self) -> Mapping[UUID, str]:
        """See Instances: processes have no images."""
        return {}

    async def remove_image(self, name: str) -> None:
        """See Instances."""

    async def exits(self) -> AsyncIterator[None]:
        """See Instances: the exit of a process that is not our child cannot be observed."""
        yield
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """See Instances."""

    def _process_of(self, instance: Instance) -> psutil.Process | None:
        # Not by the time when it was started, which seems another once the clock has been set.
        return self._found.get((instance.run, instance.id))

    def _find(self) -> Found:
        found: dict[UUID, list[Instance]] = {}
        processes: dict[tuple[UUID, str], psutil.Process] = {}
        for process in psutil.process_iter(["cmdline"]):
            if _ENGINE not in (process.info["cmdline"] or []):
                continue
            try:
                run = _run_of(process)
                if run != NO_RUN:
                    instance = Instance(run, str(process.pid), True, started(process))
                    found.setdefault(run, []).append(instance)
                    processes[run, instance.id] = process
            except psutil.NoSuchProcess:
                continue  # ended just now
            except psutil.AccessDenied as error:
                if self._may_be_ours(process):
                    # An error, since otherwise the run would be declared lost.
                    raise EngineUnavailable(
                        f"process {process.pid} is a job of another user: run worker and "
                        "supervisor as one"
                    ) from error
        self._found = processes
        return found

    def _may_be_ours(self, process: psutil.Process) -> bool:
        """Whether our worker may have started a process whose environment cannot be read."""
        worker = find_worker(self._worker, self._pool)
        try:
            return worker is None or worker.uids().real == process.uids().real
        except psutil.NoSuchProcess:
            return False


def find_worker(name: str, pool: str) -> psutil.Process | None:
    """The process of a worker on this host, by its name and pool; None where there is none."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        command: list[str] = process.info["cmdline"] or []
        if _is_worker(command) and all(_has_argument(command, w) for w in (name, pool)):
            found.append(process)
    # Where a wrapper such as a shell runs the worker, both match: return the inner process.
    parents = {process.ppid() for process in found if process.is_running()}
    return next((process for process in found if process.pid not in parents), None)


def started(process: psutil.Process) -> datetime:
    """When a process was started, by this host's clock."""
    # By its age: the time of its start would be that of a clock that has been set since.
    since_boot = process.create_time() - psutil.boot_time()
    return datetime.now(UTC) - timedelta(seconds=_since_boot() - since_boot)


def _since_boot() -> float:
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - psutil.boot_time()


def _is_worker(command: list[str]) -> bool:
    """Whether a command starts a worker: ours, or Prefect's own."""
    return "work_pools.worker" in command or {"worker", "start"} <= {*command}


def _has_argument(command: list[str], value: str) -> bool:
    return any(word == value or word.endswith(f"={value}") for word in command)


def _run_of(process: psutil.Process) -> UUID:
    """The flow run of a process; NO_RUN for a fork server."""
    return UUID(process.environ().get(RUN_VARIABLE) or NO_RUN.hex)


def _stop(process: psutil.Process | None, grace: float) -> None:
    if process is None or not process.is_running():
        return  # it has ended, and another process may have its pid by now
    try:
        family = [process, *process.children(recursive=True)]
        if grace:
            process.terminate()
            psutil.wait_procs([process], timeout=grace)
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue  # it has exited by itself
    psutil.wait_procs(family, timeout=_GONE)
