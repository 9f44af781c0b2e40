"""A topic that is a folder: NDJSON in files, a new one after 64 MiB or 60 s."""

import os
import threading
import time
from pathlib import Path
from typing import IO

from tasks.errors import TopicUnavailable

_SEGMENT_BYTES = 64 * 2**20
_SEGMENT_SECONDS = 60.0
_SYNC = 1.0  # seconds between two fsyncs


class FolderTopic:
    """Appends lines to `<folder>/<writer>-<number>.ndjson`. No two writers share a file."""

    def __init__(self, folder: Path, writer: str) -> None:
        """Create the folder. Raises TopicUnavailable where that fails."""
        self._folder = folder
        self._writer = writer
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None
        self._number = 0
        self._opened = self._synced = 0.0
        self._safe = self._taken = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def place(self) -> str:
        """The folder."""
        return str(self._folder)

    @property
    def environment(self) -> dict[str, str]:
        """TOPIC, the folder's name. Generators need no address: they print their lines."""
        return {"TOPIC": self._folder.name}

    @property
    def delivered(self) -> int:
        """Lines that are synced to the disk."""
        return self._safe

    @property
    def pending(self) -> int:
        """Lines that are written, but not synced yet."""
        return self._taken - self._safe

    def deliver(self, source: int, line: bytes) -> None:
        """See Topic."""
        with self._lock:
            try:
                file = self._segment()
                file.write(line + b"\n")
                self._taken += 1
                if time.monotonic() - self._synced > _SYNC:
                    self._sync(file)
            except OSError as error:
                raise self._unwritable(error) from error

    def hurry(self) -> None:
        """See Topic. Does nothing: lines do not wait for a disk."""

    def close(self) -> None:
        """See Topic."""
        with self._lock:
            try:
                self._roll()
            except OSError as error:
                raise self._unwritable(error) from error

    def _segment(self) -> IO[bytes]:
        now = time.monotonic()
        if self._file is not None and (
            self._file.tell() >= _SEGMENT_BYTES or now - self._opened > _SEGMENT_SECONDS
        ):
            self._roll()
        if self._file is None:
            self._number += 1
            path = self._folder / f"{self._writer}-{self._number:06}.ndjson"
            self._file = path.open("ab")
            self._opened = self._synced = now
        return self._file

    def _roll(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                self._sync(file)
            finally:
                file.close()

    def _sync(self, file: IO[bytes]) -> None:
        file.flush()
        os.fsync(file.fileno())
        self._safe, self._synced = self._taken, time.monotonic()

    def _unwritable(self, error: OSError) -> TopicUnavailable:
        return TopicUnavailable(
            f"topic {self._folder.name}: {self._folder} cannot be written: "
            f"{error.strerror or error}: free space there, or choose another topic"
        )
