"""Reads numbers from CSV and similar text in pieces; errors name the line."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tasks.averages.reading import decimals
from tasks.averages.reading.decimals import (
    COLUMN,
    COLUMNS,
    COMMENT,
    EMPTY,
    FILLED,
    FIRST,
    LAST,
    ODD,
    RAGGED,
)
from tasks.averages.reading.detect import MARKERS, WORDS, Dialect, detect, value_of
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import WRITE_A_NUMBER, Blocks, Layout, Place, Rules
from tasks.averages.reading.streams import Stream, open_text
from tasks.errors import UnreadableInput

# Bytes read at a time; a number is far shorter.
PIECE = 2**20
_LONGEST = 1_000
_REMOVE = "remove it, for the lines beside it hold more than one number"
_ENDS = b"\n,\r \t"
_SHOWN = 40
_COMMA, _LINE_END = 44, 10


def read(
    path: Path,
    name: str,
    place: Place,
    most: int,
    rules: Rules,
    numbers: Floats,
    piece: NDArray[np.uint8],
) -> Blocks:
    """Yield up to `most` numbers from `place` on, row after row; rows have equally many fields.

    The dialect is detected from the beginning of the text where the rules do not say it. A place
    that holds no number raises UnreadableInput with its line or, where the rules do not refuse it,
    becomes not-a-number: the other numbers keep their index. Empty lines at the end are skipped.
    """
    with open_text(path, name) as opened:
        dialect = detect(opened, name, rules.options)
        state = np.array(place.between, np.int64) if place.between else dialect.state.copy()
        byte = place.byte if place.between else dialect.begin
        comments = place.comments if place.between else dialect.comments
        text = _Pieces(opened.stream, byte, piece, dialect, name)
        rows = _Rows(text, state, dialect, name, rules, comments)
        number, stop = place.number, place.number + most
        filled = 0  # of `numbers`
        while number < stop and text.more():
            out = numbers[filled : min(len(numbers), filled + stop - number)]
            count, text.start, why = decimals.parse(piece, text.start, text.end, state, out)
            if why >= ODD and count < len(out) and (value := rows.odd(why)) is not None:
                out[count] = value
                count += 1
            number, filled = number + count, filled + count
            # Odd numbers are collected: adding a block takes as long as reading a hundred numbers.
            if filled and (why < ODD or filled == len(numbers)):
                yield numbers[:filled]
                filled = 0
        if filled:
            yield numbers[:filled]
        if number < stop and (value := rows.end(empty=not number)) is not None:
            numbers[0] = value
            number += 1
            yield numbers[:1]
    between = tuple(state.tolist())
    return Place(number, text.byte, between, rows.layout(), rows.comments)


class _Pieces:
    """A file's text in pieces that end at the end of a field, translated for the parser."""

    def __init__(
        self, file: Stream, byte: int, piece: NDArray[np.uint8], dialect: Dialect, name: str
    ) -> None:
        self._file = file
        self._newline = dialect.newline
        self._whole_lines = dialect.rows_matter
        self._table = dialect.table()
        self._name = name
        self._piece = piece
        self._view = memoryview(piece)  # pyright: ignore[reportArgumentType]
        self._base = byte  # position of the piece's first byte in the text
        self._filled = 0
        self._ended = False
        self.start = self.end = 0
        self._file.seek(byte)

    @property
    def byte(self) -> int:
        """The position in the text that reading has reached."""
        return self._base + self.start

    def more(self) -> bool:
        """Read a piece where `start` has reached `end`. Returns False at the end of the text."""
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
            got = self._file.readinto(self._view[self._filled :]) or 0
            if self._table is not None:
                decimals.translate(self._piece, self._filled, self._filled + got, self._table)
            self._ended = not got
            self._filled += got
        self.end = self._filled if self._ended else self._last_end()

    def _last_end(self) -> int:
        if self._whole_lines:
            return self._last_line_end()
        tail = bytes(self._view[max(0, self._filled - _LONGEST) : self._filled])
        last = max(tail.rfind(byte) for byte in _ENDS)
        # Without an end, the tail is not a number, and the parser reports it.
        return self._filled if last < 0 else self._filled - len(tail) + last + 1

    def _last_line_end(self) -> int:
        # Backwards in short parts: most pieces have a line end near their end.
        for start in range(self._filled - _LONGEST, -_LONGEST, -_LONGEST):
            part = bytes(self._view[max(start, 0) : start + _LONGEST])
            if (last := part.rfind(b"\n")) >= 0:
                return max(start, 0) + last + 1
        raise UnreadableInput(
            f"{self._name}, line {self.line(0):,} is longer than {PIECE:,} bytes: where a column "
            "is chosen, write shorter lines"
        )

    def skip_line(self, *, with_end: bool) -> None:
        """Skip to the end of the line or, with `with_end`, behind it."""
        while self.more():
            text = bytes(self._view[self.start : self.end])
            if (end := text.find(b"\n")) >= 0:
                self.start += end + with_end
                return
            self.start = self.end

    def token(self, at: int) -> bytes:
        """The text at a position of the piece, up to the next comma, blank or line end."""
        text = bytes(self._view[at : min(at + _LONGEST, self.end)])
        ends = [found for byte in _ENDS if (found := text.find(byte)) >= 0]
        return text[: min(ends, default=len(text))]

    def byte_at(self, at: int) -> int:
        """The byte at a position of the piece."""
        return int(self._piece[at])

    def line(self, at: int) -> int:
        """The number of the line at a position of the piece, from 1."""
        left, lines = self._base + at, 1
        self._file.seek(0)
        while left and (text := self._file.read(min(left, PIECE))):
            lines += text.count(self._newline)
            left -= len(text)
        return lines


@dataclass
class _Rows:
    """Handles everything that the parser does not: odd fields, comments, empty lines, errors."""

    text: _Pieces
    state: decimals.Integers
    dialect: Dialect
    name: str
    rules: Rules
    comments: int
    _comments_since_empty: int = 0
    """Comments behind an empty line that may yet prove to be an empty field."""

    def odd(self, why: int) -> float | None:
        """Read past the odd text that stopped the parser. Returns its value; None for a comment."""
        text, state = self.text, self.state
        at = text.start
        if why == RAGGED:
            raise self._ragged(text.line(at))
        token, byte = text.token(at), text.byte_at(at)
        if state[COMMENT] and byte == state[COMMENT] and token.lower() not in MARKERS:
            self._comment()
            return None
        if byte == _COMMA and not self.dialect.commas:
            raise self._refused(
                "a comma, where blanks or nothing separate the numbers so far",
                'submit with "delimiter": ",", or "decimal": ","',
            )
        if state[EMPTY]:
            return self._empty_line()
        if byte in (_COMMA, _LINE_END):
            state[FILLED] = 1
            return self._missing(last=byte == _LINE_END)
        if state[FILLED]:
            cure = "separate them as the others"
            if self.dialect.separator == ",":
                cure += ', or submit with "decimal": "," if commas mark decimals'
            raise self._refused(
                f"{self._shown(token)!r} stands in a field that holds a number already", cure
            )
        if not state[FIRST] <= state[COLUMN] < state[LAST]:
            raise self._refused(
                f"the quotes of {self._shown(token)!r} do not end in its line", "end them there"
            )
        state[FILLED] = 1
        value = self._value(token)
        text.start = at + len(token)
        return value

    def end(self, *, empty: bool) -> float | None:
        """Finish the last row where no line end follows. Returns not-a-number for a missing number.

        Raises UnreadableInput where the row is ragged, or no row has the wanted column.
        """
        state, value = self.state, None
        if state[FILLED] or state[COLUMN]:
            if not state[FILLED] and state[FIRST] <= state[COLUMN] < state[LAST]:
                value = self._missing(last=True)
            if not state[COLUMNS]:
                state[COLUMNS] = state[COLUMN] + 1
            if state[COLUMN] + 1 != state[COLUMNS]:
                raise self._ragged(self.text.line(self.text.start))
            state[COLUMN], state[FILLED] = 0, 0
            empty = empty and value is None
        if empty and 0 < state[COLUMNS] <= state[FIRST]:
            raise UnreadableInput(
                f"{self.name} has rows of {state[COLUMNS]:,}, and no column {state[FIRST] + 1:,}: "
                'submit with "column" one of them'
            )
        return value

    def layout(self) -> Layout:
        """The layout as known so far."""
        layout, columns = self.dialect.layout, int(self.state[COLUMNS])
        kept = min(columns, int(self.state[LAST])) - int(self.state[FIRST])
        return layout.model_copy(update={"columns": max(kept, 0)})

    def _comment(self) -> None:
        state = self.state
        alone = not state[FILLED] and not state[COLUMN]
        self.text.skip_line(with_end=alone)
        self.comments += 1
        self._comments_since_empty += bool(state[EMPTY])

    def _empty_line(self) -> float:
        """Handle an empty line before other text: a row with one empty field."""
        state = self.state
        wide = state[COLUMNS] > 1 or state[FIRST] > 0
        if self.rules.refuse or wide:
            line = self.text.line(self.text.start) - int(state[EMPTY]) - self._comments_since_empty
            raise UnreadableInput(
                f"{self.name}, line {line:,} is empty: {_REMOVE if wide else WRITE_A_NUMBER}"
            )
        state[COLUMNS] = state[COLUMNS] or 1
        state[EMPTY] -= 1
        if not state[EMPTY]:
            self._comments_since_empty = 0
        return math.nan

    def _missing(self, *, last: bool) -> float:
        """Handle an empty field; `last`: the one at the end of its line."""
        if self.rules.refuse:
            separator = self.dialect.separator or ","
            words = {",": "comma", ";": "semicolon", "|": "bar", **WORDS}
            word = words.get(separator, separator)
            cure = WRITE_A_NUMBER
            if last and self.state[COLUMN]:
                cure += f', or remove the {word} at the end, or submit with "column"'
            raise self._refused(f"a number is missing at a {word}", cure)
        return math.nan

    def _value(self, token: bytes) -> float:
        value = value_of(token)
        if value is None and token.strip(b'"').lower() not in MARKERS:
            raise self._refused(f"{self._shown(token)!r} is not a number", self._cure(token))
        if value is None or not math.isfinite(value):
            if self.rules.refuse:
                is_what = "stands for no number" if value is None else "is not finite"
                raise self._refused(f"{self._shown(token)} {is_what}", WRITE_A_NUMBER)
            value = math.nan
        return value

    def _cure(self, token: bytes) -> str:
        first_row = self.text.byte <= self.dialect.begin
        if token.startswith(b'"'):
            return "write the numbers without quotes"
        if token.startswith((b"#", b"%")):
            return f'submit with "comment": "{token[:1].decode()}" if it is one'
        if b"," in self._shown(token).encode() and self.dialect.decimal == ".":
            return 'write a point for the decimals, or submit with "decimal": ","'
        if first_row and not self.dialect.layout.header:
            return 'if the first line is a header, submit with "header": 1'
        if self.dialect.commas or self.state[COLUMNS] > 1:
            cure = 'write one there, or submit with "column": the column of numbers'
            lines = self.dialect.layout.header
            if first_row and lines:
                cure += f', or with "header": {lines + 1} if that line is of the header too'
            return cure
        return "write one there"

    def _ragged(self, line: int) -> UnreadableInput:
        have, columns = int(self.state[COLUMN]) + 1, int(self.state[COLUMNS])
        header = self.dialect.state[COLUMNS] > 0
        cure = ', or submit with "header": 1 if that is right' if header else ""
        if self.dialect.separator == ",":
            cure += ', or with "decimal": "," if commas mark decimals'
        return UnreadableInput(
            f"{self.name}, line {line:,} has {have:,} field{'s' * (have != 1)} where "
            f"{'the header' if header else 'the first row'} has {columns:,}: "
            f"write as many in every line{cure}"
        )

    def _refused(self, what: str, cure: str) -> UnreadableInput:
        return UnreadableInput(
            f"{self.name}, line {self.text.line(self.text.start):,}: {what}: {cure}"
        )

    def _shown(self, token: bytes) -> str:
        return self.dialect.as_written(token[:_SHOWN]).decode(errors="replace")
