"""Processes that wait for a run: made, handed one, put away; and one made for a run at once."""

import contextlib
import json
import os
import shlex
import subprocess
import sysconfig
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration

from tasks.settings import RUN_VARIABLE
from work_pools.ahead import NOBODY, split_variables
from work_pools.engine import AHEAD

_ENGINE = ["-m", "work_pools.engine"]  # what every job's Python is told; the only one that can wait
_ROOM = 512 * 2**20  # bytes of memory that the host must have to spare for each that waits
_TREE = Path(__file__).parents[2]
_OURS = ("tasks", "work_pools")  # what a job imports before it has a run: its flow comes later
_LOW = 19  # the least of priorities

_Seen = frozenset[tuple[str, int, int]]  # path, time of change, size


@dataclass(frozen=True)
class _Plan:
    """What a job's configuration asks for, without what is of its run alone; and the code."""

    command: tuple[str, ...]
    folder: Path | None
    """It works there; None for one of its own."""
    environment: Mapping[str, str]
    code: _Seen
    """What it will have imported."""


@dataclass(frozen=True)
class _Waiting:
    process: subprocess.Popen[bytes]
    folder: tempfile.TemporaryDirectory[str] | None
    plan: _Plan


class WaitingProcesses:
    """The processes that one worker has started ahead: see Waiting.

    `most`: how many wait at once. They print where the worker does.
    """

    errors = (OSError,)
    """See Waiting: no memory, no process, no file is left."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[_Waiting] = []
        self._serving: dict[str, _Waiting] = {}
        self._lock = threading.Lock()
        self._may_be_low = _can_raise_priority()

    def identifier_of(self, taken: str) -> str:
        """See Waiting: the pid."""
        return taken

    def take(self, configuration: ProcessJobConfiguration, run: UUID) -> str | None:
        """See Waiting. Where none waits one is started for the run, which costs less than as
        Prefect's worker starts it: with a client and a web socket of its own."""
        plan, variables = _plan_of(configuration)
        if plan is None:
            return None
        variables |= {RUN_VARIABLE: str(run)}
        with self._lock:
            waiting = next((one for one in self._waiting if _serves(one, plan)), None)
            if waiting:
                self._waiting.remove(waiting)
        try:
            chosen = self._hand(waiting, variables) if waiting else _start(plan, variables)
        except (OSError, psutil.NoSuchProcess):
            # Prefect's worker tries then, and says what is wrong.
            if waiting:
                _put_away(waiting)
            return None
        taken = str(chosen.process.pid)
        self._serving[taken] = chosen
        return taken

    def follow(self, taken: str) -> int:
        """See Waiting."""
        serving = self._serving[taken]
        try:
            return serving.process.wait()
        finally:
            del self._serving[taken]
            if serving.folder:
                serving.folder.cleanup()

    def keep(self, configuration: ProcessJobConfiguration) -> bool:
        """See Waiting."""
        plan, _ = _plan_of(configuration)
        with self._lock:
            useless = [one for one in self._waiting if not _serves(one, plan)]
            self._waiting = [one for one in self._waiting if one not in useless]
            missing = len(self._waiting) < self._most
        for one in useless:
            _put_away(one)
        if plan is None or not missing or not self._has_room():
            return False
        waiting = _start(plan)
        with self._lock:
            self._waiting.append(waiting)
            another = len(self._waiting) < self._most
            if self._may_be_low:
                os.setpriority(os.PRIO_PROCESS, waiting.process.pid, _LOW)
        return another

    def remove_left(self, worker: str) -> None:
        """See Waiting: none is left, each ends with the worker that holds its stdin."""

    def close(self) -> None:
        """See Waiting."""
        with self._lock:
            listed, self._waiting = self._waiting, []
        for one in listed:
            _put_away(one)

    def _hand(self, waiting: _Waiting, variables: Mapping[str, str]) -> _Waiting:
        if self._may_be_low:
            _raise_priority(waiting.process.pid)
        _send(waiting.process, json.dumps(variables).encode() + b"\n")
        return waiting

    def _has_room(self) -> bool:
        """Those that were started just now have not taken theirs yet."""
        return psutil.virtual_memory().available >= _ROOM * (len(self._waiting) + 1)


def _plan_of(configuration: ProcessJobConfiguration) -> tuple[_Plan | None, dict[str, str]]:
    """What a configuration asks for, None where no process that waits could serve it; and the
    variables of its run."""
    environment, of_the_run = split_variables(configuration.env)
    # As where Prefect's worker starts one: its own settings win.
    environment |= get_current_settings().to_environment_variables(exclude_unset=True)
    try:
        command = shlex.split(configuration.command or "")
        if command[1:] != _ENGINE:
            return None, of_the_run
        plan = _Plan(tuple(command), configuration.working_dir, environment, _code())
    except (OSError, ValueError):
        return None, of_the_run  # whatever is wrong, a cold start says it
    return plan, of_the_run


def _serves(one: _Waiting, plan: _Plan | None) -> bool:
    """Whether a process lives, and is what one that is started now would be."""
    return one.plan == plan and one.process.poll() is None


def _start(plan: _Plan, variables: Mapping[str, str] | None = None) -> _Waiting:
    """One for the run that the variables are of; without any, one that waits for them."""
    # As Prefect's worker does.
    folder = None if plan.folder else tempfile.TemporaryDirectory(suffix="prefect")
    try:
        # In a group of its own: Ctrl-C at the terminal of a worker is for the worker, which waits
        # for its jobs.
        process = subprocess.Popen(
            [*plan.command, *(() if variables else (AHEAD,))],
            cwd=folder.name if folder else plan.folder,
            env={**plan.environment, **(variables or {RUN_VARIABLE: str(NOBODY)})},
            stdin=subprocess.DEVNULL if variables else subprocess.PIPE,
            process_group=0,
        )
    except OSError:
        if folder:
            folder.cleanup()
        raise
    return _Waiting(process, folder, plan)


def _put_away(one: _Waiting) -> None:
    one.process.kill()
    one.process.wait()
    if one.process.stdin:
        one.process.stdin.close()
    if one.folder:
        one.folder.cleanup()


def _code() -> _Seen:
    """What tells whether code that jobs import has changed: ours, and what is installed."""
    files = [Path(sysconfig.get_path("purelib"))]
    files += [file for folder in _OURS for file in (_TREE / folder).rglob("*.py")]
    seen: set[tuple[str, int, int]] = set()
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # removed just now: another than before, too
            stat = file.stat()
            seen.add((str(file), stat.st_mtime_ns, stat.st_size))
    return frozenset(seen)


def _send(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin
    process.stdin.write(line)
    process.stdin.close()


def _raise_priority(pid: int) -> None:
    """Back to the worker's own. Linux keeps one for each thread."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, pid, own)  # first: what it starts from now on has its own
    for thread in psutil.Process(pid).threads():
        os.setpriority(os.PRIO_PROCESS, thread.id, own)


def _can_raise_priority() -> bool:
    """Whether this user may raise again what has been lowered: tried on a thread, which ends."""
    outcome: list[bool] = []

    def probe() -> None:
        own = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, own + 1)
            os.setpriority(os.PRIO_PROCESS, 0, own)
            outcome.append(True)
        except OSError:
            outcome.append(False)

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()
    return outcome == [True]
