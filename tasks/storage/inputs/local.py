"""The files that a source names under the inputs root, and nowhere else."""

import errno
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

from tasks.errors import FileUnreadable, SourceNotFound

_MAGIC = frozenset("*?[")
_SPECIAL = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class InputFile(Protocol):
    """One file of a source, on a disk or in S3."""

    @property
    def name(self) -> str:
        """The file's path relative to the source, with '/'; unique within the source."""
        ...

    def local(self, scratch: Path) -> AbstractAsyncContextManager[Path]:
        """Give the file's path on this host's disk, for as long as the block runs.

        A file that is not on this disk is copied to the folder `scratch`; the copy is removed.
        """
        ...

    async def is_as_listed(self) -> bool:
        """Whether the file looks unchanged since the source was listed."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file under the inputs root."""

    name: str
    path: Path
    listed: tuple[int, int] | None = None
    """Size in bytes, and time of the last change in ns, when the source was listed."""

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        """Give the file's own path: nothing is copied."""
        yield self.path

    async def is_as_listed(self) -> bool:
        """Whether the file's size and the time of its last change are those of the listing."""
        return version(self.path) == self.listed


@dataclass(frozen=True)
class Unreadable:
    """A member of a source that cannot be read, and why."""

    name: str
    """The name as it can stand in a manifest; a byte that is not UTF-8 as \\xe9."""
    reason: str
    message: str
    """The reason with the source and the name, readable alone."""

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        """Raise FileUnreadable."""
        raise FileUnreadable(self.message, self.reason)
        yield scratch

    async def is_as_listed(self) -> bool:
        """Always true: the file is never read."""
        return True


def version(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in ns of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:  # missing or not accessible: opening it gives the reason
        return None
    return status.st_size, status.st_mtime_ns


def find_local(source: str, root: Path) -> list[LocalFile]:
    """Find the files that a path, folder or glob names under `root`, sorted by name.

    A folder means every file below it that is not hidden. Raises SourceNotFound where the source
    leaves the root, by '..' or by a symbolic link, cannot be read, or names no file;
    FileUnreadable where one of its files cannot be read.
    """
    found, bad = _find(source, root)
    if bad:
        raise FileUnreadable(bad[0].message, bad[0].reason)
    return found


def find_each(source: str, root: Path) -> list[LocalFile | Unreadable]:
    """Find files as `find_local` does, and return unreadable members instead of raising.

    Named pipes, sockets and devices are unreadable members. Raises SourceNotFound where the source
    itself leaves the root, cannot be read, or names nothing.
    """
    found, bad = _find(source, root, special=True)
    return sorted([*found, *bad], key=lambda file: file.name)


def _find(
    source: str, root: Path, special: bool = False
) -> tuple[list[LocalFile], list[Unreadable]]:
    if ".." in PurePosixPath(source).parts:
        raise SourceNotFound(
            f"source '{source}' leaves the inputs root: name a path inside it, without '..'"
        )
    if not root.is_dir():
        raise SourceNotFound(
            f"source '{source}': there is no inputs root at {root}: create that folder"
        )
    start = root / source
    kind = _kind(start, source)
    fixed, pattern = split_glob(PurePosixPath(source).as_posix())
    named = fixed if kind is None and is_glob(source) else source
    _refuse_outsider(named, root / named, source, root)
    below = _Below(source, root, special)
    if kind == stat.S_IFREG:
        below.found = {start.name: start}
    elif kind == stat.S_IFDIR:
        below.walk(start, Glob("**"))
    # A slash at the end asks for folders, which are not files.
    elif is_glob(source) and source[-1] != "/" and _kind(root / fixed, source) == stat.S_IFDIR:
        below.walk(root / fixed, Glob(pattern))
    found = below.found
    if not found and not below.bad:
        raise SourceNotFound(
            f"source '{source}' names no file under the inputs root {root}: check the spelling, "
            "or put the files there"
        )
    files = [LocalFile(name, found[name], version(found[name])) for name in sorted(found)]
    return files, below.bad


def is_glob(source: str) -> bool:
    """Whether a source holds a wildcard."""
    return bool(_MAGIC & set(source))


def split_glob(pattern: str) -> tuple[str, str]:
    """Split a glob into its leading segments without a wildcard, a folder, and the rest."""
    segments = pattern.split("/")
    names = segments[:-1]
    fixed = next((n for n, name in enumerate(names) if is_glob(name)), len(names))
    return "/".join(segments[:fixed]), "/".join(segments[fixed:])


class Glob:
    """A shell's glob, matched one segment of a path at a time.

    `*`, `?` and `[…]` match inside a segment, `**` matches any number of segments, and only a dot
    matches the dot of a hidden name. (`glob.translate` exists only from Python 3.13 on.)

    A state is the set of places in the pattern that the path so far may have reached.
    """

    def __init__(self, pattern: str) -> None:
        self._globs: Sequence[str] = pattern.split("/")
        self._end = len(self._globs)
        self.start = self._open({0})

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        """Return the state after one more segment; empty where no match is possible any more."""
        places: set[int] = set()
        for place in state - {self._end}:
            glob = self._globs[place]
            if name.startswith(".") and not glob.startswith("."):
                continue
            if glob == "**":
                places.add(place)
            elif fnmatchcase(name, glob):
                places.add(place + 1)
        return self._open(places)

    def is_match(self, state: frozenset[int]) -> bool:
        """Whether a path may end here."""
        return self._end in state

    def leads_on(self, state: frozenset[int]) -> bool:
        """Whether a longer path may match."""
        return bool(state - {self._end})

    def matches(self, path: str) -> bool:
        """Whether the whole of a path matches."""
        state = self.start
        for name in path.split("/"):
            state = self.step(state, name)
        return self.is_match(state)

    def _open(self, places: set[int]) -> frozenset[int]:
        """Add the place behind each `**`, which may match no segment at all."""
        for place, glob in enumerate(self._globs):
            if glob == "**" and place in places:
                places.add(place + 1)
        return frozenset(places)


def select(paths: Sequence[str], pattern: str) -> dict[str, str]:
    """Select the paths of a pattern, by their names in the source: relative to its folder.

    A literal path or folder wins over a glob. An empty pattern selects all.
    """
    if pattern in paths:
        return {pattern.rpartition("/")[2]: pattern}
    prefix = f"{pattern.removesuffix('/')}/" if pattern else ""
    if found := {path.removeprefix(prefix): path for path in paths if path.startswith(prefix)}:
        return found
    folder, rest = split_glob(pattern)
    prefix, glob = f"{folder}/" if folder else "", Glob(rest)
    names = {path.removeprefix(prefix): path for path in paths if path.startswith(prefix)}
    return {name: path for name, path in names.items() if glob.matches(name)}


class _Below:
    """The matching files below a folder, by their path relative to it.

    A dangling link counts as a file: opening it gives the reason.
    """

    def __init__(self, source: str, root: Path, special: bool) -> None:
        self.found: dict[str, Path] = {}
        self.bad: list[Unreadable] = []
        self._source = source
        # Not Path.resolve, which raises at a link to itself before Python 3.13.
        self._inside = Path(os.path.realpath(root))
        self._special = special

    def walk(self, start: Path, glob: Glob) -> None:
        """Collect the files below `start`. Raises SourceNotFound where `start` cannot be read."""
        waiting = [(start, glob.start)]
        while waiting:
            folder, state = waiting.pop()
            try:
                paths = list(folder.iterdir())
            except OSError as error:
                if folder == start:
                    raise _unreadable(error, self._source) from error
                self._refuse_for(folder.relative_to(start).as_posix(), error)
                continue
            for path in paths:
                if not (reached := glob.step(state, path.name)):
                    continue
                deeper = self._take(path, path.relative_to(start).as_posix(), glob, reached)
                if deeper:
                    waiting.append((path, reached))

    def _take(self, path: Path, name: str, glob: Glob, reached: frozenset[int]) -> bool:
        """Keep or refuse the entry at a path. Returns whether it is a folder to look into."""
        try:
            kind = _kind_of(path)
        except OSError as error:
            self._refuse_for(name, error)
            return False
        folder = kind == stat.S_IFDIR
        if not (glob.leads_on(reached) if folder else glob.is_match(reached)):
            return False
        if not _is_utf8(name):
            reason = "is not UTF-8: rename the file"
            self._refuse(name, reason, f"the file name {name!r} {reason}")
        elif folder and path.is_symlink():
            self._refuse(
                name,
                "is a symbolic link to a folder: put the folder itself there, or name it as the "
                "source",
            )
        elif folder:
            return True
        elif not self._is_inside(path):
            self._refuse(
                name, "is a symbolic link out of the inputs root: put the file itself there"
            )
        elif kind in (stat.S_IFREG, None):
            self.found[name] = path
        elif self._special:
            self._refuse(name, f"is {_SPECIAL.get(kind, 'no file')}: remove it")
        return False

    def _is_inside(self, path: Path) -> bool:
        return Path(os.path.realpath(path)).is_relative_to(self._inside)

    def _refuse(self, name: str, reason: str, message: str = "") -> None:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        message = f"source '{self._source}': {message or f'{shown} {reason}'}"
        self.bad.append(Unreadable(shown, reason, message))

    def _refuse_for(self, name: str, error: OSError) -> None:
        reason = f"cannot be read: {error.strerror}: give the worker's user read access"
        self._refuse(name, reason)
        self.bad[-1] = replace(self.bad[-1], message=str(_unreadable(error, self._source)))


def _kind(path: Path, source: str) -> int | None:
    """As `_kind_of`; raises SourceNotFound where the path cannot be read."""
    try:
        return _kind_of(path)
    except OSError as error:
        raise _unreadable(error, source) from error


def _kind_of(path: Path) -> int | None:
    """File type of a path's target (stat.S_IFREG and so on); None where there is no target."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(error: OSError, source: str) -> SourceNotFound:
    return SourceNotFound(
        f"source '{source}': {error.filename} cannot be read: {error.strerror}: "
        "give the worker's user read access, or name another source"
    )


def _refuse_outsider(name: str, path: Path, source: str, root: Path) -> None:
    # This works also where the target is not mounted into the container.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
        raise SourceNotFound(
            f"source '{source}': {name} is a symbolic link out of the inputs root: "
            "put the file itself there"
        )
