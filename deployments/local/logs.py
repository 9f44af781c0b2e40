"""The logs of the programs of `up`: each start begins a new log, and older logs are kept."""

import shutil
from contextlib import suppress
from pathlib import Path

KEPT = 5
"""Number of older logs of each program: `worker.log.1`, the newest, to `worker.log.5`."""


def older(log: Path, number: int) -> Path:
    """The path of an older log."""
    return log.with_name(f"{log.name}.{number}")


def rotate(log: Path) -> None:
    """Rename a log to an older one, unless it is empty. Raises OSError where that fails."""
    if log.exists() and log.stat().st_size > 0:
        _make_room(log)
        log.rename(older(log, 1))


def cut(log: Path) -> None:
    """Empty a log that is being written, and keep its content as an older log.

    Its writer must append, so that it continues at the new end. Raises OSError where that fails;
    nothing is lost then.
    """
    copy = log.with_name(f"{log.name}.new")
    try:
        shutil.copyfile(log, copy)
    except OSError:
        with suppress(OSError):  # the disk may be full, and the copy not even begun
            copy.unlink(missing_ok=True)
        raise
    _make_room(log)
    copy.rename(older(log, 1))
    with log.open("r+b") as file:
        file.truncate()


def _make_room(log: Path) -> None:
    for number in range(KEPT - 1, 0, -1):
        if older(log, number).exists():
            older(log, number).replace(older(log, number + 1))
