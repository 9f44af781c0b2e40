"""Folders of users on the disk, opened one below the other: no link is followed.

A name leads nowhere else, whatever else has been put under the inputs root.
"""

import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deployments.gateway.uploads.records import USERS

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_folder(
    inputs: Path, user: str, parts: Sequence[str], *, make: bool = False
) -> Generator[int]:
    """Open a folder of a user under the inputs root, and close it with the block.

    Raises FileNotFoundError, and NotADirectoryError for a link too.
    """
    if make:
        inputs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(inputs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in (USERS, user, *parts):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=descriptor)
            below = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def exists(name: str, folder: int) -> bool:
    """Whether there is a file, a folder or a link of that name in an open folder."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
