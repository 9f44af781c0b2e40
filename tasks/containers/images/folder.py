"""A context that is a folder under the inputs root: hidden files, links and all."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.containers.images.ignored import IGNORE_FILE, Ignored
from tasks.errors import SourceNotFound, UnreadableInput
from tasks.storage.inputs import s3


@dataclass(frozen=True)
class Entry:
    """Something in a folder."""

    name: str
    """Its path in the folder."""
    path: Path
    status: os.stat_result
    """Of itself, not of what it links to."""


def folder_of(source: str, root: Path) -> Path | None:
    """The folder under the inputs root that a source names; None where it names something else.

    Raises SourceNotFound where a link leads out of the root.
    """
    if s3.is_s3(source) or ".." in PurePosixPath(source).parts:
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
    """Everything in a folder that `.dockerignore` does not leave out, by name; no link followed.

    Sockets are left out, as Docker does. Raises UnreadableInput.
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
    """That something in a folder cannot be read."""
    return UnreadableInput(
        f"{path} cannot be read: {error.strerror or error}: give the worker's user read access, or "
        "name it in .dockerignore"
    )
