"""What a source means: the files it names, under the inputs root and nowhere else."""

import errno
import os
import stat
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Protocol

from tasks.errors import SourceNotFound

_MAGIC = frozenset("*?[")


class InputFile(Protocol):
    """One file of a source, wherever it is kept."""

    @property
    def name(self) -> str:
        """Its path relative to the source, with '/'; unique within the source."""
        ...

    def local(self, scratch: Path) -> AbstractAsyncContextManager[Path]:
        """The file on this machine's disk, for as long as the block runs.

        `scratch` is a folder for a copy of what is not on this disk; the copy is removed.
        """
        ...

    async def is_as_listed(self) -> bool:
        """Whether it is still what it was when the source was listed, as far as can be told."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file under the inputs root."""

    name: str
    path: Path
    listed: tuple[int, int] | None = None
    """Its bytes, and the time of its last change in ns, then."""

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        """The file itself: nothing is copied."""
        yield self.path

    async def is_as_listed(self) -> bool:
        """Whether its size and the time of its last change are."""
        return _version(self.path) == self.listed


def _version(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # nothing there, or out of reach: whoever opens it can say why
        return None
    return status.st_size, status.st_mtime_ns


def find_local(source: str, root: Path) -> list[LocalFile]:
    """The files that a path, folder or glob names under `root`, sorted by name.

    A folder means every file below it that is not hidden. Raises SourceNotFound where the source
    leaves the root, by '..' or by a symbolic link, cannot be read, or names no file.
    """
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
    _refuse_outsiders({named: root / named}, source, root)
    found: dict[str, Path] = {}
    if kind == stat.S_IFREG:
        found = {start.name: start}
    elif kind == stat.S_IFDIR:
        found = _below(start, Glob("**"), source)
    elif is_glob(source.rstrip("/")) and _kind(root / fixed, source) == stat.S_IFDIR:
        # A slash at the end asks for folders, which are no files.
        found = {} if source.endswith("/") else _below(root / fixed, Glob(pattern), source)
    _refuse_outsiders(found, source, root)
    if not found:
        raise SourceNotFound(
            f"source '{source}' names no file under the inputs root {root}: check the spelling, "
            "or put the files there"
        )
    return [LocalFile(name, found[name], _version(found[name])) for name in sorted(found)]


def is_glob(source: str) -> bool:
    """Whether a source holds a wildcard."""
    return bool(_MAGIC & set(source))


def split_glob(pattern: str) -> tuple[str, str]:
    """The folder that every match lies in, by its segments without a wildcard, and the rest."""
    segments = pattern.split("/")
    names = segments[:-1]
    fixed = next((n for n, name in enumerate(names) if is_glob(name)), len(names))
    return "/".join(segments[:fixed]), "/".join(segments[fixed:])


class Glob:
    """A shell's glob, followed one segment of a path at a time.

    `*`, `?` and `[…]` stay inside a segment, `**` stands for any number of them, and only a dot
    matches the dot of a hidden name. (`glob.translate` is no help before Python 3.13.)

    A state holds the places in the pattern that the path so far may have come to.
    """

    def __init__(self, pattern: str) -> None:
        self._globs: Sequence[str] = pattern.split("/")
        self._end = len(self._globs)
        self.start = self._open({0})

    def step(self, state: frozenset[int], name: str) -> frozenset[int]:
        """The state after one more segment; empty where nothing can match any more."""
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
        """With the places behind each `**`, which may stand for nothing."""
        for place, glob in enumerate(self._globs):
            if glob == "**" and place in places:
                places.add(place + 1)
        return frozenset(places)


def _below(start: Path, glob: Glob, source: str) -> dict[str, Path]:
    """The files below a folder that match, by their path relative to it.

    A link that leads nowhere counts as one: whoever opens it can say what is wrong with it.
    """
    found: dict[str, Path] = {}
    waiting = [(start, glob.start)]
    while waiting:
        folder, state = waiting.pop()
        for path in _listed(folder, source):
            reached = glob.step(state, path.name)
            if not reached:
                continue
            name = path.relative_to(start).as_posix()
            _refuse_unspeakable(name, source)
            kind = _kind(path, source)
            if kind == stat.S_IFDIR:
                if not glob.leads_on(reached):
                    continue
                if path.is_symlink():
                    raise SourceNotFound(
                        f"source '{source}': {name} is a symbolic link to a folder: "
                        "put the folder itself there, or name it as the source"
                    )
                waiting.append((path, reached))
            elif glob.is_match(reached) and kind in (stat.S_IFREG, None):
                found[name] = path
    return found


def _listed(folder: Path, source: str) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise _unreadable(error, source) from error


def _kind(path: Path, source: str) -> int | None:
    """What a path leads to (stat.S_IFREG, stat.S_IFDIR and so on), None where that is nothing."""
    try:
        return stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise _unreadable(error, source) from error


def _unreadable(error: OSError, source: str) -> SourceNotFound:
    return SourceNotFound(
        f"source '{source}': {error.filename} cannot be read: {error.strerror}: "
        "give the worker's user read access, or name another source"
    )


def _refuse_unspeakable(name: str, source: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise SourceNotFound(
            f"source '{source}': the file name {name!r} is not UTF-8: rename the file"
        ) from error


def _refuse_outsiders(found: dict[str, Path], source: str, root: Path) -> None:
    # Not Path.resolve, which raises at a link to itself before Python 3.13.
    inside = Path(os.path.realpath(root))
    for name, path in found.items():
        # Where the target is not mounted into the container this still tells where it would be.
        if not Path(os.path.realpath(path)).is_relative_to(inside):
            raise SourceNotFound(
                f"source '{source}': {name} is a symbolic link out of the inputs root: "
                "put the file itself there"
            )
