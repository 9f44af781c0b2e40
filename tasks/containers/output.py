"""What a container wrote to /output: watched while it runs, collected once it is gone."""

import errno
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.contracts import MAX_NAME_BYTES

MOST_FILES = 100_000
"""Files and folders that /output may hold."""
_DEEPEST = 100  # folders in one another
_LISTED = 100  # of what was left out


@dataclass(frozen=True)
class Size:
    """How much lies in a folder."""

    bytes: int
    entries: int
    fault: str = ""
    """Why it cannot be measured, where it cannot."""


@dataclass(frozen=True)
class Collected:
    """What became of /output."""

    files: int
    bytes: int
    left_out: list[dict[str, str]]
    """What is not in the result, and why; the first of them."""
    left_out_in_all: int


def measure(folder: Path) -> Size:
    """How much lies below a folder. A file that is written to counts with what it has by then."""
    size = entries = depth = 0
    try:
        for entry, depth in _walk(folder):
            entries += 1
            if depth > _DEEPEST or entries > MOST_FILES:
                break
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed meanwhile
            if stat.S_ISREG(status.st_mode):
                # What it would take once published: a hole counts as what it stands for.
                size += max(status.st_size, status.st_blocks * 512)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return Size(size, entries, "a path in /output is longer than the system's 4,096 bytes")
        if error.errno == errno.EACCES:
            # Who hides what it writes, is not measured.
            return Size(size, entries, "a folder in /output cannot be read: leave it its rights")
        raise
    if entries > MOST_FILES:
        return Size(size, entries, f"/output holds more than {MOST_FILES:,} files and folders")
    if depth > _DEEPEST:
        return Size(size, entries, f"/output holds more than {_DEEPEST} folders in one another")
    return Size(size, entries)


def collect(folder: Path, target: Path) -> Collected:
    """Move every regular file below `folder` to `target`. Nothing is followed, nothing opened.

    Only once nothing can change it any more, and it was measured without a fault. Names that cannot
    stand in a manifest are spelled with %XX for each odd byte.
    """
    moved = size = count = 0
    left_out: list[dict[str, str]] = []
    for entry, _ in _walk(folder):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            continue
        path = Path(*map(_named, Path(entry.path).relative_to(folder).parts))
        why = _kind(status)
        if not why:
            try:
                to = _free(target / path)
                to.parent.mkdir(parents=True, exist_ok=True)
                Path(entry.path).rename(to)
                to.chmod(0o644)
                moved, size = moved + 1, size + status.st_size
                continue
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                why = "its path is too long"
        count += 1
        if len(left_out) < _LISTED:
            left_out.append({"path": str(path), "why": why})
    return Collected(moved, size, left_out, count)


def clear(folder: Path) -> None:
    """Remove a folder of ours, however deep it is and whatever rights it has.

    Each folder in it is moved up first: no path is ever too long.
    """
    if not folder.exists():
        return
    waiting = [folder]
    number = 0
    while waiting:
        place = waiting.pop()
        place.chmod(0o700)
        with os.scandir(place) as listed:
            for entry in list(listed):
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry.path).unlink()
                    continue
                Path(entry.path).chmod(0o700)  # or it could not be moved
                number += 1
                up = folder.with_name(f"{folder.name}.{number}")
                Path(entry.path).rename(up)
                waiting.append(up)
        place.rmdir()


def _walk(folder: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    """Every entry below a folder, with its depth; of links, the links. Raises OSError."""
    waiting = [(str(folder), 1)]
    while waiting:
        place, depth = waiting.pop()
        try:
            listed = os.scandir(place)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        with listed:
            for entry in listed:
                yield entry, depth
                if depth <= _DEEPEST and entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))


def _kind(status: os.stat_result) -> str:
    """Why something is no regular file; nothing for one that is."""
    if stat.S_ISREG(status.st_mode):
        return ""
    for test, kind in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(status.st_mode):
            return kind
    return "a device"


def _named(name: str) -> str:
    """A name that JSON, a URL and a shell can hold."""
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "".join(chr(b) if 0x20 <= b < 0x7F and b != 0x25 else f"%{b:02X}" for b in raw)
    text = re.sub(
        r"[\x00-\x1f\x7f-\x9f\\\u2028\u2029]",
        lambda odd: "".join(f"%{b:02X}" for b in odd[0].encode()),
        text,
    )
    if len(text.encode()) > MAX_NAME_BYTES:
        text = text.encode()[: MAX_NAME_BYTES - 8].decode(errors="ignore") + "~"
    return text


def _free(path: Path) -> Path:
    """A path that nothing has yet: two odd names may be spelled alike."""
    number = 1
    free = path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name[:200]}~{number}")
    return free
