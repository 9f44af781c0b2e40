"""Attempts that are plain processes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

import psutil

from tasks.errors import EngineUnavailable
from tasks.settings import RUN_VARIABLE
from work_pools.standby import NO_RUN
from work_pools.supervisor.infrastructure.instance import Found, Instance
from work_pools.supervisor.infrastructure.threads import in_thread

_ENGINE = "work_pools.entrypoint.run"  # in the command of each
_GONE = 5.0  # seconds in which a killed process must be gone


class Processes:
    """The processes of jobs on this host. Of one that has ended, nothing is left to find.

    `worker` of `pool` is the one that starts ours.
    """

    def __init__(self, worker: str, pool: str) -> None:
        self._worker = worker
        self._pool = pool

    async def find(self) -> Found:
        """See Instances."""
        return await asyncio.to_thread(self._find)

    async def stop(self, instance: Instance, grace: float) -> None:
        """See Instances."""
        await in_thread(_stop, instance, grace)

    async def remove(self, instance: Instance) -> None:
        """See Instances."""
        await in_thread(_stop, instance, 0.0)

    async def built(self) -> Mapping[UUID, str]:
        """See Instances: none."""
        return {}

    async def remove_image(self, name: str) -> None:
        """See Instances."""

    async def exits(self) -> AsyncIterator[None]:
        """See Instances: nothing tells of a process that is not our child."""
        yield
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """See Instances."""

    def _find(self) -> Found:
        found: dict[UUID, list[Instance]] = {}
        for process in psutil.process_iter(["cmdline"]):
            if _ENGINE not in (process.info["cmdline"] or []):
                continue
            try:
                run = _run_of(process)
                if run != NO_RUN:
                    instance = Instance(run, str(process.pid), True, started(process))
                    found.setdefault(run, []).append(instance)
            except psutil.NoSuchProcess:
                continue  # ended just now
            except psutil.AccessDenied as error:
                if self._may_be_ours(process):
                    # Not to be taken for lost.
                    raise EngineUnavailable(
                        f"process {process.pid} is a job of another user: run worker and "
                        "supervisor as one"
                    ) from error
        return found

    def _may_be_ours(self, process: psutil.Process) -> bool:
        """Whether our worker can have started a process, whose environment we may not read."""
        worker = find_worker(self._worker, self._pool)
        try:
            return worker is None or worker.uids().real == process.uids().real
        except psutil.NoSuchProcess:
            return False


def find_worker(name: str, pool: str) -> psutil.Process | None:
    """The worker of this name and pool on this host; None where none can be seen."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter(["cmdline"]):
        command: list[str] = process.info["cmdline"] or []
        if _is_worker(command) and all(_says(command, w) for w in (name, pool)):
            found.append(process)
    # Of a wrapper and what it wraps, the one within.
    parents = {process.ppid() for process in found if process.is_running()}
    return next((process for process in found if process.pid not in parents), None)


def started(process: psutil.Process) -> datetime:
    """When a process was started, by this host's clock."""
    return datetime.fromtimestamp(process.create_time(), UTC)


def _is_worker(command: list[str]) -> bool:
    """Whether a command starts a worker: ours, or Prefect's own."""
    return "work_pools.worker" in command or {"worker", "start"} <= {*command}


def _says(command: list[str], value: str) -> bool:
    return any(word == value or word.endswith(f"={value}") for word in command)


def _run_of(process: psutil.Process) -> UUID:
    """The flow run that a process is of; NO_RUN's where it waits for one."""
    return UUID(process.environ().get(RUN_VARIABLE) or NO_RUN.hex)


def _stop(instance: Instance, grace: float) -> None:
    try:
        process = psutil.Process(int(instance.id))
        if started(process) != instance.since:
            return  # the number is another's by now
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
            continue  # ended by itself: as wanted
    psutil.wait_procs(family, timeout=_GONE)
