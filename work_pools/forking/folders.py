"""Emptying of the folders that one run leaves to the next, such as /tmp."""

import shutil
from pathlib import Path

_PLACE = 4  # index of the mount point among the fields of /proc/self/mountinfo: proc(5)


def empty(folder: Path) -> None:
    """Remove everything in a folder except mount points: inputs and results may be mounted there.

    Raises OSError where an entry cannot be removed.
    """
    if folder.is_dir():
        _empty(folder, _mount_points())


def _empty(folder: Path, mounted: set[Path]) -> None:
    for entry in folder.iterdir():
        if entry.is_symlink() or not entry.is_dir():
            if entry not in mounted:
                entry.unlink()
        elif any(place.is_relative_to(entry) for place in mounted):
            if entry not in mounted:
                _empty(entry, mounted)
        else:
            shutil.rmtree(entry)


def _mount_points() -> set[Path]:
    """All mount points in this process's namespace."""
    rows = Path("/proc/self/mountinfo").read_bytes().splitlines()
    # Blanks and similar characters are written as a backslash and three octal digits.
    names = (row.split()[_PLACE].decode("unicode_escape").encode("latin-1") for row in rows)
    return {Path(name.decode(errors="surrogateescape")) for name in names}
