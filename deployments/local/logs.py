"""The logs of what `up` runs: each start has one of its own, and the older ones are kept."""

import shutil
from contextlib import suppress
from pathlib import Path

KEPT = 5
"""Older logs of each program: `worker.log.1`, the newest of them, to `worker.log.5`."""


def older(log: Path, number: int) -> Path:
    """The place of an older log."""
    return log.with_name(f"{log.name}.{number}")


def rotate(log: Path) -> None:
    """Make a log an older one, unless it is empty. Raises OSError where that cannot be done."""
    if log.exists() and log.stat().st_size > 0:
        _make_room(log)
        log.rename(older(log, 1))


def cut(log: Path) -> None:
    """Empty a log that is being written, and keep what it held as an older one.

    Whoever writes it appends, and so goes on at the new end. Raises OSError; then nothing is lost.
    """
    copy = log.with_name(f"{log.name}.new")
    try:
        shutil.copyfile(log, copy)
    except OSError:
        with suppress(OSError):  # the disk is full, perhaps, and the copy not even begun
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
