"""Files and folders of a home that only its owner may read.

The server's database has the secrets of blocks, logs and the other databases what users submit.
Results and inputs have the modes that their writers choose.
"""

import os
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o077
_BESIDE = ("", "-wal", "-shm", "-journal")  # the files of a SQLite database, by what is appended


def make_home(home: Path) -> None:
    """Make a home, readable for its owner alone. One that exists keeps its mode: its owner may
    have let others read the results in it."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private_folder(folder: Path) -> None:
    """Make a folder of a home, or take one that exists from everybody but its owner."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close(folder)


def make_private_database(file: Path) -> None:
    """Make an empty SQLite database, or take one that exists from everybody but its owner.

    SQLite gives the files beside it the same mode.
    """
    with suppress(OSError):  # SQLite reports why it cannot open the file
        os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
    for name in (f"{file.name}{end}" for end in _BESIDE):
        _close(file.with_name(name))


def write_private_file(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read, all of it or nothing."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(descriptor)
    new.rename(file)


def _close(path: Path) -> None:
    try:
        status = path.stat()
        # Where it is another user's, they decide.
        if status.st_mode & _OTHERS and status.st_uid == os.geteuid():
            path.chmod(status.st_mode & 0o7777 & ~_OTHERS)
    except FileNotFoundError:
        return  # SQLite removes what is beside a database when the last program closes it
