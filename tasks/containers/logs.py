"""What a container prints: kept whole up to a bound, byte by byte, and shown live line by line."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

_SHOWN_AT_ONCE = 200  # lines
_SHOWN_PER_SECOND = 50.0  # lines: what is printed faster would only burden the server
_SHOWN = 1000  # characters of a line
_RECENT = 50  # lines in which the reason of a failure is looked for
_TAIL = 64 * 2**10  # bytes of the end, where a log is cut
_LINE = 64 * 2**10  # bytes after which a line without an end is shown as it is


class Log:
    """A file that takes what one stream prints: its first bytes, and where it is cut, its last."""

    def __init__(self, path: Path, most: int) -> None:
        """`most`: bytes from its beginning that it keeps."""
        self._file = path.open("wb")
        self._most = most
        self._over = 0  # bytes that came after those
        self._tail = deque[bytes]()
        self._tail_bytes = 0

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what is kept of the end, with a mark where something is missing."""
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
        """Whether something of it is left out."""
        return self._over > _TAIL

    def write(self, data: bytes) -> None:
        """Take what was printed. Raises OSError."""
        room = max(0, self._most - self._file.tell())
        self._file.write(data[:room])
        self._file.flush()
        if rest := data[room:]:
            self._over += len(rest)
            self._tail.append(rest)
            self._tail_bytes += len(rest)
            while self._tail_bytes - len(self._tail[0]) >= _TAIL:
                self._tail_bytes -= len(self._tail.popleft())


class Live:
    """Shows lines as they come, as many as a person or a server can take."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._rest = b""
        self._may = float(_SHOWN_AT_ONCE)
        self._at = time.monotonic()
        self._skipped = 0
        self.last = deque[str](maxlen=3)
        """The last lines that said anything."""
        self.recent = deque[str](maxlen=_RECENT)
        """The same, more of them."""

    def write(self, data: bytes) -> None:
        """Take what was printed."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LINE:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._line(line)

    def close(self) -> None:
        """Show what is left, and say what was not shown."""
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
            self._show(
                f"[{self._skipped:,} lines are not shown here: the log that is kept has them]"
            )
            self._skipped = 0
