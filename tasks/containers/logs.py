"""A container's output: a bounded log file with its bytes, and a rate-limited view of its lines."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

_SHOWN_AT_ONCE = 200  # lines
_SHOWN_PER_SECOND = 50.0  # lines: more would only burden the server
_SHOWN = 1000  # characters of a line
_RECENT = 50  # last lines, which are searched for the reason of a failure
_TAIL = 64 * 2**10  # bytes kept of the end of a log that is cut
_LINE = 64 * 2**10  # bytes after which an unfinished line is shown


class Log:
    """A log file of one stream: its first bytes and, where it is longer, its last."""

    def __init__(self, path: Path, most: int) -> None:
        """`most`: bytes that are kept from the beginning."""
        self._file = path.open("wb")
        self._most = most
        self._over = 0  # bytes after the first `most`
        self._tail = deque[bytes]()
        self._tail_bytes = 0

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        """Write the kept end, after a line that says how many bytes are left out."""
        try:
            tail = b"".join(self._tail)[-_TAIL:]
            if missing := self._over - len(tail):
                mark = f"\n[prefecture: {missing:,} bytes are left out here]\n"
                self._file.write(mark.encode())
            self._file.write(tail)
        finally:
            self._file.close()

    @property
    def is_cut(self) -> bool:
        """Whether bytes are left out."""
        return self._over > _TAIL

    def write(self, data: bytes) -> None:
        """Append output. Raises OSError."""
        room = max(0, self._most - self._file.tell())
        self._file.write(data[:room])
        self._file.flush()
        if rest := data[room:]:
            self._over += len(rest)
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            while self._tail_bytes - len(self._tail[0]) >= _TAIL:
                self._tail_bytes -= len(self._tail.popleft())


class LineView:
    """Shows lines as they are printed: 200 at once, then 50 a second; the rest is only counted."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._rest = b""
        self._may = float(_SHOWN_AT_ONCE)
        self._at = time.monotonic()
        self._skipped = 0
        self.last = deque[str](maxlen=3)
        """The last 3 lines that are not blank."""
        self.recent = deque[str](maxlen=_RECENT)
        """The last 50 lines that are not blank."""

    def write(self, data: bytes) -> None:
        """Take output, and show its lines."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Show the last, unfinished line, and how many lines were not shown."""
        self._line(self._rest)
        self._tell_skipped()

    def _line(self, line: bytes) -> None:
        text = "".join(
            c if c.isprintable() or c == "\t" else "�"
            for c in line.decode(errors="replace").rstrip()
        )
        if not text:
            return
        if len(text) > _SHOWN:
            text = f"{text[:_SHOWN]}… ({len(text):,} characters)"
        self.last.append(text)
        self.recent.append(text)
        now = time.monotonic()
        self._may = min(_SHOWN_AT_ONCE, self._may + (now - self._at) * _SHOWN_PER_SECOND)
        self._at = now
        if self._may < 1:
            self._skipped += 1
            return
        self._may -= 1
        self._tell_skipped()
        self._show(text)

    def _tell_skipped(self) -> None:
        if self._skipped:
            self._show(f"[{self._skipped:,} lines are not shown here: they are in the log file]")
            self._skipped = 0
