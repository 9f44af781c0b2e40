"""Health checks of a host, run at intervals. Installed packages can add checks."""

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import entry_points
from pathlib import Path

import psutil

from tasks.contracts import Pool
from tasks.errors import EngineUnavailable, PrefectureError, in_short
from tasks.settings import Settings
from tasks.storage.results.disk import disk_fault, disk_fault_of, too_full
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.infrastructure.containers import Containers
from work_pools.supervisor.infrastructure.ecs_tasks import EcsTasks
from work_pools.supervisor.infrastructure.instance import Instances

ENTRY_POINTS = "prefecture.checks"
"""Entry point group under which an installed package adds a Check."""

_SHOWN = 300  # characters of a check's finding: reports and events have little room
_VALID_FOR = 30.0  # seconds after a successful write without another test of the storage
_TIMEOUT = 10.0  # seconds after which a running check has failed

Check = Callable[[Settings], str | None]
"""Returns one line with the fault and its cure; None where all is well. May block."""


def results_disk(settings: Settings) -> str | None:
    """Check that the folder of results is writable and has free space."""
    return disk_fault(settings.written, settings.min_free_disk)


def results_disk_of(user: str) -> Check:
    """Make the same check for jobs that run as another user, `uid:gid`."""

    def check(settings: Settings) -> str | None:
        return disk_fault_of(user, settings.written, settings.min_free_disk)

    return check


class ResultsStorage:
    """Check that results can be written to S3: every 30 s, and at each call after a failure."""

    def __init__(self, results: ResultsRoot) -> None:
        self._results = results
        self._written = -_VALID_FOR

    def __call__(self, settings: Settings) -> str | None:
        if time.monotonic() - self._written < _VALID_FOR:
            return None
        try:
            self._results.check()
        except PrefectureError as error:
            return str(error)
        self._written = time.monotonic()
        return None


def memory(settings: Settings) -> str | None:
    """Check that enough memory is available."""
    available = psutil.virtual_memory().available
    if available >= settings.min_free_memory:
        return None
    return (
        f"{available / 2**20:,.0f} MiB of memory available, "
        f"{settings.min_free_memory / 2**20:,.0f} MiB wanted: run fewer jobs at once"
    )


def checks_of(
    pool: Pool, instances: Instances, results: ResultsRoot, settings: Settings
) -> dict[str, Check]:
    """The checks of a pool's hosts by name, with those of installed packages."""
    checks: dict[str, Check] = {"results disk": results_disk, "memory": memory}
    if isinstance(instances, EcsTasks):
        checks = {"ecs": _ecs(instances)}  # no job has this host's disk or memory
    if results.fails_transiently:
        checks["results storage"] = ResultsStorage(results)
    if pool is Pool.DOCKER:
        assert isinstance(instances, Containers)
        # The user of the pool's containers, not the folder's owner, who may change.
        checks["results disk"] = results_disk_of(settings.user)
        checks |= {"engine": _engine(instances), "engine's disk": _engines_disk(instances)}
        if settings.runtime is not None:
            checks["runtime"] = _runtime(instances, settings.runtime)
    return checks | {point.name: point.load() for point in entry_points(group=ENTRY_POINTS)}


class Checkup:
    """Runs a host's checks, each in its own thread: one that hangs does not delay the others."""

    def __init__(self, checks: Mapping[str, Check], settings: Settings) -> None:
        self._checks = checks
        self._settings = settings
        self._threads = ThreadPoolExecutor(max(1, len(checks)), thread_name_prefix="check")
        self._running: dict[str, Future[str | None]] = {}

    async def failed(self) -> dict[str, str]:
        """Run every check. Returns the findings of the failed checks by name."""
        findings = await asyncio.gather(*map(self._found, self._checks))
        return {
            name: finding[:_SHOWN]
            for name, finding in zip(self._checks, findings, strict=True)
            if finding is not None
        }

    async def _found(self, name: str) -> str | None:
        if name not in self._running or self._running[name].done():
            self._running[name] = self._threads.submit(self._checks[name], self._settings)
        try:
            # Shielded: a check that hangs goes on, and is not started a second time.
            running = asyncio.shield(asyncio.wrap_future(self._running[name]))
            return await asyncio.wait_for(running, _TIMEOUT)
        except TimeoutError:
            return f"does not end within {_TIMEOUT:.0f} s"
        except Exception as error:  # noqa: BLE001  # a check of any package; its error is a failure
            return f"broke: {in_short(error)}"


def _engine(containers: Containers) -> Check:
    def check(settings: Settings) -> str | None:
        try:
            containers.ping()
        except EngineUnavailable as error:
            return f"{error}: start it"
        return None

    return check


def _ecs(tasks: EcsTasks) -> Check:
    def check(settings: Settings) -> str | None:
        try:
            tasks.check()
        except EngineUnavailable as error:
            return str(error)
        return None

    return check


def _runtime(containers: Containers, wanted: str) -> Check:
    def check(settings: Settings) -> str | None:
        try:
            there = containers.runtimes()
        except EngineUnavailable:
            return None  # the check `engine` reports this
        if wanted in there:
            return None
        known = ", ".join(sorted(there))
        return (
            f"the engine has no runtime {wanted!r}: install it, or set PREFECTURE_RUNTIME to one "
            f"of {known}"
        )

    return check


def _engines_disk(containers: Containers) -> Check:
    def check(settings: Settings) -> str | None:
        try:
            root = Path(containers.root())
        except EngineUnavailable:
            return None  # the check `engine` reports this
        # The folder does not exist here where the engine is on another machine.
        return too_full(root, settings.min_free_disk) if root.exists() else None

    return check
