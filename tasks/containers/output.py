"""A container's /output: measured while it runs, moved to the result once it is gone."""

import errno
import os
import re
import stat
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.contracts import MAX_NAME_BYTES

MOST_FILES = 100_000
"""Maximum of files and folders in /output."""
_DEEPEST = 100  # levels of folders
_LISTED = 100  # left out entries that the summary names
_MOST_LINKS = 40  # links to links that are followed, as on Linux
_READ = os.R_OK | os.X_OK


@dataclass(frozen=True)
class Size:
    """The size of a folder's content."""

    bytes: int
    entries: int
    fault: str = ""
    """Why it could not be measured or is refused; empty where it was measured."""


@dataclass(frozen=True)
class Collected:
    """Files of /output that are in the result, and those left out."""

    files: int
    bytes: int
    left_out: list[dict[str, str]]
    """The first 100 entries that are not in the result: `path` and `why`."""
    left_out_in_all: int
    """How many entries are not in the result."""


def measure(folder: Path) -> Size:
    """Measure everything below a folder. A file that is being written counts with its size now."""
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
                # The space that it takes once published: holes of a sparse file count in full.
                size += max(status.st_size, status.st_blocks * 512)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return Size(size, entries, "a path in /output is longer than the system's 4,096 bytes")
        if error.errno in (errno.EACCES, errno.EPERM):
            # The container takes away rights as fast as _walk gives them.
            return Size(size, entries, "a folder in /output cannot be read: leave it its rights")
        raise
    if entries > MOST_FILES:
        return Size(size, entries, f"/output holds more than {MOST_FILES:,} files and folders")
    if depth > _DEEPEST:
        return Size(size, entries, f"/output holds more than {_DEEPEST} folders in one another")
    return Size(size, entries)


def collect(
    folder: Path,
    target: Path,
    mounted_at: Collection[str] = ("/output",),
    most: float = float("inf"),
) -> Collected:
    """Move every regular file below `folder` to `target`. Nothing outside is followed or opened.

    A link to a file or folder inside, by a relative path or one below `mounted_at`, becomes a copy
    of it (as hard links), as long as all files together have at most `most` bytes. Call it only
    when nothing can change the folder any more and `measure` found no fault. In names, bytes that a
    manifest cannot hold are written as %XX.
    """
    collection = _Collection(folder, target, most)
    links: list[PurePosixPath] = []
    for entry, _ in _walk(folder, _READ | os.W_OK):
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            continue
        place = PurePosixPath(Path(entry.path).relative_to(folder).as_posix())
        if stat.S_ISLNK(status.st_mode):
            links.append(place)
        elif why := _kind(status):
            collection.leave_out(place, why)
        else:
            collection.move(place, status.st_size)
    collection.add_links(sorted(links), mounted_at)
    return collection.collected


class _Collection:
    """Moves files, and keeps their new paths and sizes by their paths in /output."""

    def __init__(self, folder: Path, target: Path, most: float) -> None:
        self._folder = folder
        self._target = target
        self._most = most
        self._moved: dict[str, tuple[Path, int]] = {}
        self._count = self._bytes = 0
        self._left_out: list[dict[str, str]] = []
        self._left_out_in_all = 0

    @property
    def collected(self) -> Collected:
        return Collected(self._count, self._bytes, self._left_out, self._left_out_in_all)

    def leave_out(self, place: PurePosixPath, why: str) -> None:
        self._left_out_in_all += 1
        if len(self._left_out) < _LISTED:
            self._left_out.append({"path": "/".join(map(_named, place.parts)), "why": why})

    def move(self, place: PurePosixPath, size: int) -> None:
        try:
            to = self._free(place)
            (self._folder / place).rename(to)
            to.chmod(0o644)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            self.leave_out(place, "its path is too long")
            return
        self._moved[str(place)] = to, size
        self._count, self._bytes = self._count + 1, self._bytes + size

    def add_links(self, links: Collection[PurePosixPath], mounted_at: Collection[str]) -> None:
        """Publish links, which are still in the folder; their targets have been moved."""
        paths = sorted(self._moved)
        for link in links:
            led = _followed(self._folder, link, mounted_at)
            if led is None:
                self.leave_out(link, "a symbolic link")
                continue
            if str(led) in self._moved:
                self._add(link, [(link, str(led))])
                continue
            prefix = "" if led == PurePosixPath() else f"{led}/"
            inside = paths[bisect_left(paths, prefix) : bisect_left(paths, f"{prefix}\U0010ffff")]
            if link.is_relative_to(led):
                self.leave_out(link, "a symbolic link to a folder that it is in")
            elif inside:
                self._add(link, [(link / path.removeprefix(prefix), path) for path in inside])
            else:
                self.leave_out(link, "a symbolic link to nothing that is published")

    def _add(self, link: PurePosixPath, files: list[tuple[PurePosixPath, str]]) -> None:
        size = sum(self._moved[path][1] for _, path in files)
        if self._bytes + size > self._most or self._count + len(files) > MOST_FILES:
            self.leave_out(link, "a symbolic link, with which /output is larger than its limit")
            return
        for place, path in files:
            source, bytes = self._moved[path]
            try:
                os.link(source, self._free(place))
            except OSError as error:
                if error.errno not in (errno.ENAMETOOLONG, errno.EMLINK):
                    raise
                self.leave_out(place, "a symbolic link: its path is too long, or it is one of many")
                continue
            self._count, self._bytes = self._count + 1, self._bytes + bytes

    def _free(self, place: PurePosixPath) -> Path:
        to = _free(self._target.joinpath(*map(_named, place.parts)))
        to.parent.mkdir(parents=True, exist_ok=True)
        return to


def _followed(
    folder: Path, link: PurePosixPath, mounted_at: Collection[str]
) -> PurePosixPath | None:
    """The target of a link as a path in `folder`; None where it is outside."""
    rest = list(reversed(link.parts))
    at = PurePosixPath()
    links = 0
    while rest:
        part = rest.pop()
        if part == "..":
            if at == PurePosixPath():
                return None
            at = at.parent
            continue
        here = folder / at / part
        if not here.is_symlink():
            at /= part
            continue
        links += 1
        leads = PurePosixPath(here.readlink())
        if links > _MOST_LINKS:
            return None
        if leads.is_absolute():
            mount = next((one for one in mounted_at if leads.is_relative_to(one)), None)
            if mount is None:
                return None
            at, leads = PurePosixPath(), leads.relative_to(mount)
        rest.extend(reversed(leads.parts))
    return at


def clear(folder: Path) -> None:
    """Remove a folder of this user, of any depth and with any permissions.

    Each inner folder is moved up first, so that no path is too long.
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
                Path(entry.path).chmod(0o700)  # needed to move it
                number += 1
                up = folder.with_name(f"{folder.name}.{number}")
                Path(entry.path).rename(up)
                waiting.append(up)
        place.rmdir()


def _walk(folder: Path, rights: int = _READ) -> Iterator[tuple[os.DirEntry[str], int]]:
    """Every entry below a folder, with its depth; links are not followed. Raises OSError.

    A folder that lacks `rights` for this user (os.R_OK, W_OK, X_OK) gets all rights for its owner.
    """
    waiting = [(str(folder), 1)]
    while waiting:
        place, depth = waiting.pop()
        try:
            if not os.access(place, rights):
                _give_rights(place, folder)
            listed = os.scandir(place)
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        with listed:
            for entry in listed:
                yield entry, depth
                if depth <= _DEEPEST and entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, depth + 1))


def _give_rights(place: str, folder: Path) -> None:
    """Give this user all rights to a folder `place` below `folder`.

    The container may replace `place` by a link at any moment. So it is opened without following
    links, and changed through the descriptor, after a check that this is still inside `folder`.
    """
    opened = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        same = Path(f"/proc/self/fd/{opened}")
        if same.readlink().is_relative_to(os.path.realpath(folder)):
            same.chmod(0o700)
    finally:
        os.close(opened)


def _kind(status: os.stat_result) -> str:
    """The kind of an entry that is not a regular file; empty for a regular file."""
    if stat.S_ISREG(status.st_mode):
        return ""
    for test, kind in (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if test(status.st_mode):
            return kind
    return "a device"


def _named(name: str) -> str:
    """A file name with the bytes that JSON, URLs or shells cannot hold written as %XX."""
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
    """A path that does not exist yet: two unusual names may become the same."""
    number = 1
    free = path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.name[:200]}~{number}")
    return free
