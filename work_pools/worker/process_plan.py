"""What a process job's configuration asks for, apart from its run."""

import contextlib
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration

from work_pools.standby import split_variables

_ENGINE = [
    "-m",
    "work_pools.entrypoint.run",
]  # what every job's Python is told; the only one that forks
_TREE = Path(__file__).parents[2]
_OURS = ("tasks", "work_pools")  # what a server imports before it forks: the flow comes later

_Seen = frozenset[tuple[str, int, int]]  # path, time of change, size


@dataclass(frozen=True)
class Plan:
    """How a job's process is started, without what is of its run alone; and the code."""

    command: tuple[str, ...]
    folder: Path | None
    """It works there; None for one of its own."""
    environment: Mapping[str, str]
    code: _Seen
    """What it will have imported."""


def plan_of(configuration: ProcessJobConfiguration) -> tuple[Plan | None, dict[str, str]]:
    """What a configuration asks for, None where no engine of ours serves it; and the variables of
    its run."""
    environment, of_the_run = split_variables(configuration.env)
    # As where Prefect's worker starts one: its own settings win.
    environment |= get_current_settings().to_environment_variables(exclude_unset=True)
    try:
        command = shlex.split(configuration.command or "")
        if command[1:] != _ENGINE:
            return None, of_the_run
        plan = Plan(tuple(command), configuration.working_dir, environment, _code())
    except (OSError, ValueError):
        return None, of_the_run  # whatever is wrong, a cold start says it
    return plan, of_the_run


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
