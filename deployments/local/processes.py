"""Child processes that stay up: restarted when they end, ended whole when told to."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import psutil

from tasks.errors import OperatorError

_LIBC = ctypes.CDLL(None)  # here, since to load it between fork and exec could deadlock
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_PAUSE = 30.0  # seconds before a child that keeps ending is started again
_GRACE = 8.0  # seconds a process may take to end when asked to
_LOG_TAIL = 4000
_LOG_MOST = 64 * 2**20  # bytes of a log, and as many of the one before it
_LOG_LOOK = 10.0  # seconds between two looks at that
_REAP_LOOK = 5.0  # seconds between two looks for orphans that have ended


def adopt_orphans() -> None:
    """Have what our children leave behind become ours, so that we can find it and end it."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def reap_orphans() -> None:
    """Let go of those that `adopt_orphans` made ours, once they end, until cancelled.

    Nobody else asks for their exit code, and until someone does they stay in the process table.
    """
    while True:
        await asyncio.sleep(_REAP_LOOK)
        await asyncio.to_thread(_reap)


def _reap() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, ChildProcessError):
            # What we have started ourselves leads a session, and asyncio waits for it.
            if child.status() == psutil.STATUS_ZOMBIE and os.getsid(child.pid) != child.pid:
                os.waitpid(child.pid, os.WNOHANG)


class Child:
    """One program, kept running, its output in a file."""

    def __init__(
        self, name: str, argv: list[str], env: dict[str, str], log: Path, say: Callable[[str], None]
    ) -> None:
        self.name = name
        self._argv = argv
        self._env = env
        self._log = log
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start it, and again whenever it ends, after a growing pause."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        await self._spawn()
        # Each by itself: the end of one must not hide the other from `stop`.
        self._watches = [
            asyncio.create_task(self._keep_running()),
            asyncio.create_task(self._keep_log_short()),
        ]

    async def stop(self, *, at_once: bool = False) -> None:
        """End it and every process below it: first with SIGTERM, unless `at_once`, then SIGKILL."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        process = self._process
        if process is None or process.returncode is not None:
            return
        below = _descendants(process.pid)
        if not at_once:
            process.terminate()
            await asyncio.wait({asyncio.create_task(process.wait())}, timeout=_GRACE)
        if process.returncode is None:
            process.kill()
        await process.wait()
        await kill(below)

    @property
    def started(self) -> bool:
        """Whether it was ever started."""
        return self._process is not None

    @property
    def running(self) -> bool:
        """Whether the process is there now."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> Path:
        """The file of its output."""
        return self._log

    def log_tail(self) -> str:
        """The end of its output."""
        return self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")

    async def _spawn(self) -> None:
        with self._log.open("ab") as output:
            self._process = await _spawn(self._argv, self._env, output)

    async def _keep_log_short(self) -> None:
        """What jobs print goes into the worker's log: it must not fill the disk."""
        told = False
        while True:
            await asyncio.sleep(_LOG_LOOK)
            try:
                if self._log.exists() and self._log.stat().st_size > _LOG_MOST:
                    before = self._log.with_suffix(".log.1")
                    await asyncio.to_thread(shutil.copyfile, self._log, before)
                    # The child appends, so that it goes on at the new end.
                    os.truncate(self._log, 0)
            except OSError as error:
                if not told:
                    self._say(f"the log of the {self.name} cannot be cut: {error}; trying again")
                told = True

    async def _keep_running(self) -> None:
        pause = 1.0
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            code = await self._process.wait()
            if asyncio.get_running_loop().time() - started > 10 * _LONGEST_PAUSE:
                pause = 1.0
            self._say(f"the {self.name} ended with {code} (see {self._log}); starting it again")
            while True:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                try:
                    await self._spawn()
                    break
                except OSError as error:
                    self._say(f"the {self.name} cannot be started: {error}; trying again")


async def kill(processes: list[psutil.Process]) -> None:
    """Kill processes that are none of asyncio's, and wait until they are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue  # ended by itself meanwhile: as wanted
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=_GRACE)
    if alive:
        raise OperatorError(f"processes {[p.pid for p in alive]} do not end: look at them by hand")


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """Every process with this variable in its environment.

    How a worker that is gone has its jobs found: they inherit the mark it was started with.
    """
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue  # another user's, or gone: not one of ours
    return found


def leftovers() -> list[psutil.Process]:
    """Every process below this one: what children that are gone have left, once they are."""
    return psutil.Process().children(recursive=True)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


async def _spawn(
    argv: list[str], env: dict[str, str], output: IO[bytes]
) -> asyncio.subprocess.Process:
    parent = os.getpid()

    def die_with_parent() -> None:
        # Where we are killed outright, the child is asked to end too: it has children to end.
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return await asyncio.create_subprocess_exec(
        *argv,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end it in order.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
