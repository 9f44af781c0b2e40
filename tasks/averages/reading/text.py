"""Numbers out of text: CSV and its like, in pieces, with the line of whatever is wrong."""

import math
import re
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.averages.reading import decimals
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import WRITE_A_NUMBER, Blocks, Place, Rules
from tasks.errors import UnreadableInput

# Bytes read at a time; a token of ours is far shorter.
PIECE = 2**20
_LONGEST = 1_000
_FIRST = 2**16  # bytes in which most headers end
_LONGEST_HEADER = 2**24
_NAME = re.compile(rb"[#(\[]?[A-Za-z_\x80-\xff]")
# What others write where there is no number, in small letters.
_MARKERS = frozenset({b"na", b"n/a", b"#n/a", b"null", b"none", b'""', b"\\n"})
_REMOVE = "remove it, for the lines beside it hold more than one number"
_ENDS = b"\n,\r \t"
_SHOWN = 40


def read(
    path: Path,
    name: str,
    place: Place,
    most: int,
    rules: Rules,
    numbers: Floats,
    piece: NDArray[np.uint8],
) -> Blocks:
    """Up to `most` numbers from `place` on, between commas, blanks and line ends.

    A first line of names is a header, and skipped; so are empty lines at the end. Each place that
    holds no number is told with its line, by UnreadableInput, or, where the rules let it be, comes
    as not-a-number, so that no number moves up.
    """
    with path.open("rb", buffering=0) as file:
        if place == Place():
            place = Place(byte=_header(file), between=decimals.BEGINNING)
        stop = place.number + most
        text = _Pieces(file, place.byte, piece)
        while place.number < stop and text.more():
            out = numbers[: min(len(numbers), stop - place.number)]
            count, at, why, between = decimals.parse(
                piece, text.start, text.end, place.between, out
            )
            if why == decimals.ODD and count < len(out):
                at, out[count], between = _odd(text, at, between, name, rules)
                count += 1
            text.start = at
            place = Place(place.number + count, text.byte, between)
            if count:
                yield out[:count]
        if place.between & decimals.COMMA and place.number < stop:
            if rules.refuse:
                raise _missing(name, text.line(text.start))
            place = Place(place.number + 1, text.byte, decimals.WIDE)
            numbers[0] = math.nan
            yield numbers[:1]
    return place


class _Pieces:
    """A file's text in pieces that end where a number does."""

    def __init__(self, file: FileIO, byte: int, piece: NDArray[np.uint8]) -> None:
        self._file = file
        self._piece = piece
        self._view = memoryview(piece)  # pyright: ignore[reportArgumentType]
        self._base = byte  # of the piece's first byte
        self._filled = 0
        self._ended = False
        self.start = self.end = 0
        self._file.seek(byte)

    @property
    def byte(self) -> int:
        """Where in the file reading has come to."""
        return self._base + self.start

    def more(self) -> bool:
        """See that there is something to read from `start` to `end`."""
        while self.start == self.end:
            if self._ended and self.end == self._filled:
                return False
            self._fill()
        return True

    def _fill(self) -> None:
        rest = self._filled - self.start
        self._view[:rest] = bytes(self._view[self.start : self._filled])
        self._base += self.start
        self.start, self._filled = 0, rest
        while self._filled < len(self._view) and not self._ended:
            got = self._file.readinto(self._view[self._filled :])
            self._ended = not got
            self._filled += got or 0
        self.end = self._filled if self._ended else self._last_end()

    def _last_end(self) -> int:
        tail = bytes(self._view[max(0, self._filled - _LONGEST) : self._filled])
        last = max(tail.rfind(byte) for byte in _ENDS)
        # Without one, whatever stands there is no number.
        return self._filled if last < 0 else self._filled - len(tail) + last + 1

    def token(self, at: int) -> bytes:
        """What stands at a place of the piece, to the next comma, blank or line end."""
        text = bytes(self._view[at : min(at + _LONGEST, self.end)])
        ends = [found for byte in _ENDS if (found := text.find(byte)) >= 0]
        return text[: min(ends, default=len(text))]

    def line(self, at: int) -> int:
        """The number of the line that a place of the piece is in, from 1."""
        left, lines = self._base + at, 1
        self._file.seek(0)
        while left and (text := self._file.read(min(left, PIECE))):
            lines += text.count(b"\n")
            left -= len(text)
        return lines


def _odd(text: _Pieces, at: int, between: int, name: str, rules: Rules) -> tuple[int, float, int]:
    """What stands where no plain number does: where it ends, its value, and what follows it."""
    token, wide = text.token(at), between & decimals.WIDE
    if not token:
        if rules.refuse:
            raise _missing(name, text.line(at))
        return at, math.nan, decimals.WIDE
    if (lines := between // decimals.LINE) > 1:
        if rules.refuse or wide:
            line = text.line(at) - lines + 1
            raise UnreadableInput(
                f"{name}, line {line:,} is empty: {WRITE_A_NUMBER if not wide else _REMOVE}"
            )
        return at, math.nan, (lines - 1) * decimals.LINE
    value = _value(token)
    if value is None and token.lower() not in _MARKERS:
        shown = token[:_SHOWN].decode(errors="replace")
        raise UnreadableInput(f"{name}, line {text.line(at):,}: {shown!r} is not a number")
    if value is None or not math.isfinite(value):
        if rules.refuse:
            is_what = "stands for no number" if value is None else "is not finite"
            raise UnreadableInput(
                f"{name}, line {text.line(at):,}: {token[:_SHOWN].decode()} {is_what}: "
                f"{WRITE_A_NUMBER}"
            )
        value = math.nan
    return at + len(token), value, wide


def _missing(name: str, line: int) -> UnreadableInput:
    return UnreadableInput(f"{name}, line {line:,}: a number is missing at a comma")


def _value(token: bytes) -> float | None:
    if b"_" in token:  # float takes 1_000
        return None
    try:
        return float(token)
    except ValueError:
        return None


def _header(file: FileIO) -> int:
    """The length of a first line of names; a byte order mark counts as such."""
    start = b""
    while b"\n" not in start and len(start) < _LONGEST_HEADER:
        more = file.read(_FIRST)
        if not more:
            break
        start += more
    mark = 3 if start.startswith(b"\xef\xbb\xbf") else 0
    line, end, _ = start[mark:].partition(b"\n")
    separator = next((each for each in (b",", b"\t", b";") if each in line), None)
    fields = [field.strip() for field in line.split(separator)]
    if separator is None and fields:  # one name may be of several words: `temp 2`
        fields = fields[:1] + [field for field in fields[1:] if not field.isdigit()]
    if fields and all(map(_is_name, fields)):
        return mark + len(line) + len(end)
    return mark


def _is_name(field: bytes) -> bool:
    """Whether a field is the name of a column, and no number in other clothes (`$5`, `"1.5"`)."""
    bare = field.strip(b"\"'").strip()
    if not bare or bare.lower() in _MARKERS or _value(bare) is not None:
        return False
    return _NAME.match(bare) is not None
