"""A list in a file of a home, which commands and running gateways change and read."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from tasks.errors import OperatorError
from tasks.settings import make_home, write_private_file

_Entry = TypeVar("_Entry", bound=BaseModel)


class HomeList(Generic[_Entry]):
    """The entries of one file, which its owner alone may read. A change is seen at once.

    `cure`: what the operator does where the file is damaged.
    """

    def __init__(
        self, home: Path, name: str, entries: TypeAdapter[list[_Entry]], cure: str
    ) -> None:
        self._home = home
        self._file = home / name
        self._adapter = entries
        self._cure = cure
        self._read_at: tuple[int, int, int] | None = None
        self._entries: list[_Entry] = []

    def read(self) -> list[_Entry]:
        """All entries. The same list as before where nothing has changed.

        Raises OperatorError where the file is damaged.
        """
        try:
            status = self._file.stat()
        except FileNotFoundError:
            if self._read_at is not None:
                self._read_at, self._entries = None, []
            return self._entries
        at = (status.st_ino, status.st_mtime_ns, status.st_size)
        if at != self._read_at:
            try:
                entries = self._adapter.validate_json(self._file.read_bytes())
            except ValueError as error:
                raise OperatorError(
                    f"{self._file} is no file of {self._file.stem}: {self._cure}"
                ) from error
            self._read_at, self._entries = at, entries
        return self._entries

    def write(self, entries: list[_Entry]) -> None:
        """Replace the entries. To be called in `changing`."""
        write_private_file(self._file, self._adapter.dump_json(entries, indent=2))

    @contextmanager
    def changing(self) -> Generator[None]:
        """Let one program at a time change the file."""
        make_home(self._home)
        lock = self._file.with_name(f"{self._file.name}.lock")
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
