"""Supervised child processes: restarted when they end, stopped with all their descendants."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import IO, Any

import psutil

from deployments.local import logs
from tasks.errors import OperatorError
from tasks.settings import make_private_folder

_LIBC = ctypes.CDLL(None)  # at import: loading it between fork and exec could deadlock
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_PAUSE = 30.0  # seconds before a child that keeps ending is restarted
_STEADY = 30.0  # seconds of run time after which the pause is the shortest again
_BEAT_LOOK = 5.0  # seconds between two checks for a child's heartbeats
_BEATS_MISSED = 24  # checks in a row without one, after which it hangs: two minutes
_BEATS_AT_START = 120  # the same before its first heartbeat: a busy machine imports slowly
_GRACE = 8.0  # seconds a process may take to end when asked to
_LOG_TAIL = 4000
_LOG_MOST = 64 * 2**20  # bytes of a log, and of each older one
_LOG_LOOK = 10.0  # seconds between two checks of a log's size
_REAP_LOOK = 5.0  # seconds between two searches for orphans that have ended


def adopt_orphans() -> None:
    """Make this process the parent of orphaned descendants, so that it can find and end them."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


async def reap_orphans() -> None:
    """Reap the adopted orphans that have ended, until cancelled.

    Without this they would stay in the process table: no other code reads their exit codes.
    """
    while True:
        await asyncio.sleep(_REAP_LOOK)
        await asyncio.to_thread(_reap)


def _reap() -> None:
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError, ChildProcessError):
            # Our own children lead a session: asyncio waits for those.
            if child.status() == psutil.STATUS_ZOMBIE and os.getsid(child.pid) != child.pid:
                os.waitpid(child.pid, os.WNOHANG)


class Child:
    """A program that is kept running, with its output in a file."""

    def __init__(
        self, name: str, argv: list[str], env: dict[str, str], log: Path,
        say: Callable[[str], None], *, heartbeat: bool = False,
    ) -> None:  # fmt: skip
        """`heartbeat`: the program takes `--heartbeat DESCRIPTOR`, a pipe that it writes into at
        intervals. Where it stops to, it hangs: it is killed, and so restarted."""
        self.name = name
        self._heartbeat = heartbeat
        self._pipe: int | None = None
        self._argv = argv
        self._env = env
        self._log = log
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start it, and restart it whenever it ends, after a growing pause."""
        make_private_folder(self._log.parent)
        logs.rotate(self._log)
        await self._spawn()
        # Separate tasks: one that fails must not keep `stop` from the others.
        self._watches = [
            asyncio.create_task(self._keep_running()),
            asyncio.create_task(self._keep_log_short()),
            *([asyncio.create_task(self._kill_if_it_hangs())] if self._heartbeat else []),
        ]

    async def stop(self, *, at_once: bool = False) -> None:
        """End it and its descendants: first with SIGTERM, unless `at_once`, then with SIGKILL."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        self._close_pipe()
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
        """Whether the process runs now."""
        return self._process is not None and self._process.returncode is None

    @property
    def log(self) -> Path:
        """The file with its output."""
        return self._log

    def log_tail(self) -> str:
        """The end of its output."""
        return self._log.read_bytes()[-_LOG_TAIL:].decode(errors="replace")

    async def _spawn(self) -> None:
        with self._log.open("ab") as output:
            if not self._heartbeat:
                self._process = await _spawn(self._argv, self._env, output)
                return
            reads, writes = os.pipe()
            try:
                argv = [*self._argv, "--heartbeat", str(writes)]
                self._process = await _spawn(argv, self._env, output, pass_on=(writes,))
            except BaseException:
                os.close(reads)
                raise
            finally:
                os.close(writes)
        os.set_blocking(reads, False)
        self._close_pipe()
        self._pipe = reads

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    async def _kill_if_it_hangs(self) -> None:
        """Kill a process without heartbeats.

        Counts checks instead of seconds: while the whole machine is suspended nothing hangs.
        """
        watched, missed, may_miss = self._process, 0, _BEATS_AT_START
        while True:
            await asyncio.sleep(_BEAT_LOOK)
            process = self._process
            if process is not watched:
                watched, missed, may_miss = process, 0, _BEATS_AT_START
            if self._has_beaten():
                missed, may_miss = 0, _BEATS_MISSED
            else:
                missed += 1
            if missed > may_miss and process is not None and process.returncode is None:
                self._say(
                    f"the {self.name} has sent no heartbeat for "
                    f"{missed * _BEAT_LOOK:.0f} s: killing it"
                )
                process.kill()
                missed = 0

    def _has_beaten(self) -> bool:
        if self._pipe is None:
            return False
        try:
            return bool(os.read(self._pipe, 65_536))
        except BlockingIOError:
            return False

    async def _keep_log_short(self) -> None:
        """Cut the log when it is too large: the output of jobs is in the worker's."""
        reported = False
        while True:
            await asyncio.sleep(_LOG_LOOK)
            try:
                if self._log.exists() and self._log.stat().st_size > _LOG_MOST:
                    await _to_its_end(asyncio.to_thread(logs.cut, self._log))
            except OSError as error:
                if not reported:
                    self._say(f"the log of the {self.name} cannot be cut: {error}; retrying")
                reported = True

    async def _keep_running(self) -> None:
        pause = 0.0
        while True:
            assert self._process is not None
            started = asyncio.get_running_loop().time()
            code = await self._process.wait()
            pause = pause_after(asyncio.get_running_loop().time() - started, pause)
            self._say(f"the {self.name} ended with {code} (see {self._log}); restarting it")
            while True:
                await asyncio.sleep(pause)
                try:
                    await self._spawn()
                    break
                except OSError as error:
                    self._say(f"the {self.name} cannot be started: {error}; retrying")
                    pause = pause_after(0.0, pause)


def pause_after(ran: float, last: float) -> float:
    """Seconds before the restart of a child that ran for `ran` seconds.

    One second after a long run, otherwise twice the last pause, between 1 and 30 s.
    """
    return 1.0 if ran > _STEADY else min(max(1.0, 2 * last), _LONGEST_PAUSE)


async def kill(processes: list[psutil.Process]) -> None:
    """Kill processes that asyncio does not wait for, and wait until they are gone."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue  # ended meanwhile
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=_GRACE)
    if alive:
        raise OperatorError(
            f"processes {[p.pid for p in alive]} do not end after SIGKILL: inspect them"
        )


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """All processes with this variable in their environment.

    It finds the jobs of a worker that is gone: they inherit the worker's environment.
    """
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(variable) == value:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue  # another user's, or gone
    return found


def leftovers() -> list[psutil.Process]:
    """All descendants of this process: the orphans of children, after the children are gone."""
    return psutil.Process().children(recursive=True)


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Wait for `work`, also where this task is cancelled meanwhile: a thread goes on anyway."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    finally:
        await asyncio.wait({task})


async def _spawn(
    argv: list[str], env: dict[str, str], output: IO[bytes], pass_on: Collection[int] = ()
) -> asyncio.subprocess.Process:
    parent = os.getpid()

    def die_with_parent() -> None:
        # If we are killed, the child gets SIGTERM too, so that it can end its own children.
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
        pass_fds=pass_on,
        # A session of its own: Ctrl-C in the terminal reaches only us, and we stop it in order.
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
