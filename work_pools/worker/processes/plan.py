"""The process that a job's configuration asks for, without the variables of its run."""

import contextlib
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration

from work_pools.standby import split_variables

_ENGINE = ["-m", "work_pools.entrypoint.run"]  # only this program can be a fork server
_TREE = Path(__file__).parents[3]
_OURS = ("tasks", "work_pools")  # packages that a server imports before it forks; not the flows

_Fingerprint = frozenset[tuple[str, int, int]]  # path, time of change in ns, size in bytes


@dataclass(frozen=True)
class Plan:
    """The process of a job, apart from the variables of its run; and the version of its code."""

    command: tuple[str, ...]
    folder: Path | None
    """Working directory; None for a temporary one for each run."""
    environment: Mapping[str, str]
    code: _Fingerprint
    """Fingerprint of the code that the process imports."""


def plan_of(configuration: ProcessJobConfiguration) -> tuple[Plan | None, dict[str, str]]:
    """The plan of a configuration, None where its command is not ours; and its run's variables."""
    # As in Prefect's worker, whose own settings win.
    own = get_current_settings().to_environment_variables(exclude_unset=True)
    environment, of_the_run = split_variables({**configuration.env, **own})
    try:
        command = shlex.split(configuration.command or "")
        if command[1:] != _ENGINE:
            return None, of_the_run
        plan = Plan(tuple(command), configuration.working_dir, environment, _code())
    except (OSError, ValueError):
        return None, of_the_run  # a cold start reports the error
    return plan, of_the_run


def _code() -> _Fingerprint:
    """Fingerprint of the code that jobs import: our files, and the folder of installed packages."""
    files = [Path(sysconfig.get_path("purelib"))]
    files += [file for folder in _OURS for file in (_TREE / folder).rglob("*.py")]
    seen: set[tuple[str, int, int]] = set()
    for file in files:
        with contextlib.suppress(FileNotFoundError):  # removed just now, which changes it too
            stat = file.stat()
            seen.add((str(file), stat.st_mtime_ns, stat.st_size))
    return frozenset(seen)
