"""What a source means: the files it names, under the inputs root and nowhere else."""

import glob
import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
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

    def local(self, scratch: Path) -> AbstractContextManager[Path]:
        """The file on this machine's disk, for as long as the block runs.

        `scratch` is a folder for a copy of what is not on this disk; the copy is removed.
        """
        ...


@dataclass(frozen=True)
class LocalFile:
    """A file under the inputs root."""

    name: str
    path: Path

    @contextmanager
    def local(self, scratch: Path) -> Generator[Path]:
        """The file itself: nothing is copied."""
        yield self.path


def find_local(source: str, root: Path) -> list[LocalFile]:
    """The files that a path, folder or glob names under `root`, sorted by name.

    A folder means every file below it that is not hidden. Raises SourceNotFound where the source
    leaves the root, by '..' or by a symbolic link, or names no file.
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
    fixed = start if start.is_symlink() or start.exists() else root / _fixed_part(source)
    _refuse_outsiders({fixed.relative_to(root).as_posix(): fixed}, source, root)
    if start.is_file():
        found = {start.name: start}
    elif start.is_dir():
        found = {path.relative_to(start).as_posix(): path for path in _walk(start)}
    else:
        base = root / _fixed_part(source)
        # Path.glob would match hidden files, which a shell's glob does not.
        matches = glob.iglob(source, root_dir=root, recursive=True)  # noqa: PTH207
        paths = (path for match in matches if (path := root / match).is_file())
        found = {path.relative_to(base).as_posix(): path for path in paths}
    _refuse_outsiders(found, source, root)
    if not found:
        raise SourceNotFound(
            f"source '{source}' names no file under the inputs root {root}: check the spelling, "
            "or put the files there"
        )
    return [LocalFile(name, found[name]) for name in sorted(found)]


def _walk(start: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(start, followlinks=False):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield here / name
        for name in subfolders:
            if (here / name).is_symlink():
                raise SourceNotFound(
                    f"source: {(here / name).relative_to(start)} is a symbolic link to a folder: "
                    "put the folder itself there, or name it as the source"
                )


def _fixed_part(pattern: str) -> str:
    """The folder that every match of a glob lies in: its leading segments without a wildcard."""
    segments: list[str] = []
    for segment in PurePosixPath(pattern).parts[:-1]:
        if _MAGIC & set(segment):
            break
        segments.append(segment)
    return "/".join(segments)


def _refuse_outsiders(found: dict[str, Path], source: str, root: Path) -> None:
    inside = root.resolve()
    for name, path in found.items():
        # Where the target is not mounted into the container this still tells where it would be.
        real = path.resolve()
        if not real.is_relative_to(inside):
            raise SourceNotFound(
                f"source '{source}': {name} is a symbolic link out of the inputs root: "
                "put the file itself there"
            )
