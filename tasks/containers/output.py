"""What a container wrote to /output: watched while it runs, collected once it is gone."""

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
"""Files and folders that /output may hold."""
_DEEPEST = 100  # folders in one another
_LISTED = 100  # of what was left out
_MOST_LINKS = 40  # that lead to one another, as on Linux
_READ = os.R_OK | os.X_OK


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
        if error.errno in (errno.EACCES, errno.EPERM):
            # Whoever hides again what we may read is not measured.
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

    A link to something inside, by a relative path or one below `mounted_at`, becomes what it links
    to, as far as all is `most` bytes then. Only once nothing can change it any more, and it was
    measured without a fault. Names that cannot stand in a manifest are spelled with %XX for each
    odd byte.
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
    """What is moved, by its path in /output."""

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
        """Links are read where they still are; what they lead to has moved."""
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
    """Where a link leads, as a path in `folder`; None where that is outside."""
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


def _walk(folder: Path, rights: int = _READ) -> Iterator[tuple[os.DirEntry[str], int]]:
    """Every entry below a folder, with its depth; of links, the links. Raises OSError.

    A folder that we may not read, list or, with W_OK in `rights`, write is given those rights.
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
    """Give us all rights to a folder below `folder`, which is ours.

    Whoever writes there may put a link in its place at any moment: what was opened is asked where
    it is, and only that is changed.
    """
    opened = os.open(place, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        same = Path(f"/proc/self/fd/{opened}")
        if same.readlink().is_relative_to(os.path.realpath(folder)):
            same.chmod(0o700)
    finally:
        os.close(opened)


def _kind(status: os.stat_result) -> str:
    """Why something is no regular file; nothing for one that is."""
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
