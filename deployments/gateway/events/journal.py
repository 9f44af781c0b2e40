"""The journal: the last changes, each with a cursor, in memory and in a file of the home.

The file lets clients resume where a gateway was killed. Its lines are of JSON: first the name of
the journal, then changes, and the times up to which all changes are in it.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from uuid import UUID

from fastapi.sse import format_sse_event
from pydantic import ValidationError

from deployments.jobs.changes import JobChange
from tasks.settings import make_home, write_private_file

MOST = 10_000
"""Changes that are kept: a client that has missed more must read the list of jobs again."""
_log = logging.getLogger(__name__)
_Line = dict[str, object]
_EPOCH = 4  # bytes of the random name of a journal


@dataclass(frozen=True)
class Entry:
    """A change in the journal."""

    number: int
    cursor: str
    run: UUID
    """The attempt."""
    moved: datetime
    """When the attempt entered its state."""
    change: JobChange
    message: bytes
    """The change as a server-sent event."""


def message(change: JobChange, cursor: str) -> bytes:
    """A change as a server-sent event."""
    return format_sse_event(data_str=change.model_dump_json(), event="job", id=cursor)


class Journal:
    """The last changes. `file`: None keeps them in memory alone."""

    def __init__(self, file: Path | None, most: int = MOST) -> None:
        self._file = file
        self._most = most
        self._entries: deque[Entry] = deque(maxlen=most)
        self._epoch = secrets.token_hex(_EPOCH)
        self._number = 0  # of the last change
        self._lines = 0
        self._opened: int | None = None
        self.complete_until: datetime | None = None
        """The time up to which all changes are in it."""

    @property
    def head(self) -> str:
        """The cursor of the last change."""
        return self._cursor(self._number)

    def open(self) -> None:
        """Read the file, and write to it from now on. Where another gateway of the same home has
        it, this journal stays in memory."""
        if self._file is None or self._opened is not None:
            return
        try:
            make_home(self._file.parent)
            lock = os.open(f"{self._file}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            return self._give_up(error)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            self._file = None
            return
        self._read(self._file)
        self._rewrite()

    def renew(self) -> None:
        """Forget all changes: every cursor is unknown from now on."""
        self._epoch, self._number = secrets.token_hex(_EPOCH), 0
        self._entries.clear()
        self.complete_until = None
        self._rewrite()

    def add(self, run: UUID, moved: datetime, change: JobChange) -> Entry:
        """Add a change."""
        self._number += 1
        entry = self._entry(self._number, run, moved, change)
        self._entries.append(entry)
        self._write(_line(entry))
        return entry

    def complete(self, until: datetime) -> None:
        """Note that all changes up to this time are in it."""
        self.complete_until = until
        self._write({"until": until.isoformat()})

    def after(self, cursor: str) -> list[Entry] | None:
        """The changes after a cursor. None where it is too old, or none of this journal."""
        epoch, _, text = cursor.partition("-")
        if epoch != self._epoch or not (text.isascii() and text.isdigit()):
            return None
        number, oldest = int(text), self._number - len(self._entries)
        if not oldest <= number <= self._number:
            return None
        return list(islice(self._entries, number - oldest, None))

    def __iter__(self) -> Iterator[Entry]:
        """The changes that are kept, the oldest first."""
        return iter(self._entries)

    def _cursor(self, number: int) -> str:
        return f"{self._epoch}-{number}"

    def _entry(self, number: int, run: UUID, moved: datetime, change: JobChange) -> Entry:
        cursor = self._cursor(number)
        return Entry(number, cursor, run, moved, change, message(change, cursor))

    def _read(self, file: Path) -> None:
        """Take over what a file has. The last line may be cut off."""
        try:
            text = file.read_bytes()
            lines, whole = text.splitlines(), text.endswith(b"\n")
            head = json.loads(lines[0])
            epoch, number = str(head["epoch"]), int(head["number"])
            if head["boot"] != _boot():
                return  # with the machine, lines are lost that clients have received
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            return
        self._epoch, self._number = epoch, number
        # The last line may be cut off: nobody has received that change.
        for line in lines[1 : len(lines) - (not whole)]:
            try:
                given = json.loads(line)
                if "until" in given:
                    self.complete_until = datetime.fromisoformat(given["until"])
                    continue
                change = JobChange.model_validate(given["change"])
                moved = datetime.fromisoformat(given["moved"])
                self._number = int(given["number"])
                self._entries.append(self._entry(self._number, UUID(given["run"]), moved, change))
            except (ValueError, KeyError, TypeError, ValidationError):
                # What is missing would be missed by clients.
                return self.renew()

    def _rewrite(self) -> None:
        """Write the file anew, with no more than what is kept."""
        if self._file is None:
            return
        oldest = self._number - len(self._entries)
        lines: list[_Line] = [{"epoch": self._epoch, "number": oldest, "boot": _boot()}]
        lines += map(_line, self._entries)
        if self.complete_until is not None:
            lines.append({"until": self.complete_until.isoformat()})
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
        try:
            write_private_file(self._file, b"".join(map(_dumped, lines)))
            self._opened = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            return self._give_up(error)
        self._lines = len(lines)

    def _write(self, line: _Line) -> None:
        if self._opened is None:
            return
        if self._lines >= 2 * self._most:
            return self._rewrite()
        dumped = _dumped(line)
        try:
            if os.write(self._opened, dumped) < len(dumped):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            return self._give_up(error)
        self._lines += 1

    def _give_up(self, error: OSError) -> None:
        """Go on in memory alone, and leave no file that lacks what clients receive from now on."""
        _log.warning("the events of jobs are kept in memory alone: %s: %s", self._file, error)
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()
        self._file = self._opened = None


def _boot() -> str:
    """A name for the time since the machine has started; empty where it has none."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _line(entry: Entry) -> _Line:
    return {
        "number": entry.number,
        "run": str(entry.run),
        "moved": entry.moved.isoformat(),
        "change": entry.change.model_dump(mode="json"),
    }


def _dumped(line: _Line) -> bytes:
    return f"{json.dumps(line)}\n".encode()
