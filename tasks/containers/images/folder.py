"""Build contexts that are folders under the inputs root, with hidden files and links."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.containers.images.ignored import IGNORE_FILE, Ignored
from tasks.contracts import JobSource
from tasks.errors import SourceNotFound, UnreadableInput
from tasks.storage.inputs import s3


@dataclass(frozen=True)
class Entry:
    """A file, folder or link in a folder."""

    name: str
    """Its path relative to the folder."""
    path: Path
    status: os.stat_result
    """Its own status, not that of a link's target."""


def folder_of(source: str, root: Path) -> Path | None:
    """The folder under the inputs root that a source names; None where it names no such folder.

    Raises SourceNotFound where a link leads out of the root.
    """
    if s3.is_s3(source) or JobSource.parse(source) or ".." in PurePosixPath(source).parts:
        return None
    place = root / source
    if not place.is_dir():
        return None
    if not Path(os.path.realpath(place)).is_relative_to(os.path.realpath(root)):
        raise SourceNotFound(
            f"source '{source}' is a symbolic link out of the inputs root: put the folder itself "
            "there"
        )
    return place


def entries(folder: Path, ignored: Ignored) -> Iterator[Entry]:
    """All entries below a folder that `.dockerignore` does not leave out; links are not followed.

    Sockets are left out, as by Docker. Raises UnreadableInput.
    """
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        for path in _listed(place):
            name = path.relative_to(folder).as_posix()
            status = path.lstat()
            is_folder = stat.S_ISDIR(status.st_mode)
            out = ignored.leaves_out(name) and name not in ("Dockerfile", IGNORE_FILE)
            if is_folder and not (out and ignored.is_final):
                waiting.append(path)
            if not out and not stat.S_ISSOCK(status.st_mode):
                yield Entry(name, path, status)


def _listed(place: Path) -> list[Path]:
    try:
        return sorted(place.iterdir())
    except OSError as error:
        raise unreadable(place, error) from error


def unreadable(path: Path, error: OSError) -> UnreadableInput:
    """The error for an entry that cannot be read."""
    return UnreadableInput(
        f"{path} cannot be read: {error.strerror or error}: give the worker's user read access, or "
        "name it in .dockerignore"
    )
