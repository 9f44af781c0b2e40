"""Detects the dialect of a text of numbers: separator, decimal mark, header, comments."""

import csv
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.averages.reading import decimals
from tasks.averages.reading.columns import find_column, with_names
from tasks.averages.reading.place import EVERY_COLUMN, Layout, Options
from tasks.averages.reading.streams import Text
from tasks.errors import UnreadableInput

_FIRST = 2**16  # bytes of the first sample, which holds most headers
_MOST = 2**24  # bytes of the largest sample
_ROWS, _FIELDS = 20, 200  # rows, and fields in each, that are examined
BLANK = " "
WORDS = {BLANK: "blank", "\t": "tab"}
# Separators of fields, with decimal marks. Of dialects that fit equally the first is chosen.
_DIALECTS = (
    (";", "."),
    (";", ","),
    ("|", "."),
    ("|", ","),
    ("\t", "."),
    ("\t", ","),
    (",", "."),
    (BLANK, "."),
)
_ORDER = ";|\t, "
_NUMBERS = {
    ".": re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"),
    ",": re.compile(rb"[-+]?(\d+,?\d*|,\d+)([eE][-+]?\d+)?"),
}
# A name begins with a letter, or with one sign and a letter (`°C`): not with a digit of any
# script, a minus or a currency, which begin numbers that are not read (`\u22125`, `€5`).
_NAME = re.compile(r"[(\[]?([^\W\d]|[^\w\s!-~\u2010-\u2015\u2212\u20a0-\u20cf£¤¥¢][^\W\d])")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity)\(.*\)", re.IGNORECASE)  # C's nan(0x1)
_THOUSANDS = re.compile(rb"[-+]?\d{1,3}( \d{3})+(,\d*)?")
_QUOTED = re.compile(rb'"[^"]*"')
_SEPARATOR_LINE = re.compile(rb'"?sep=([!-~\t])"?\s*', re.IGNORECASE)  # written by Excel
_FIELD_END = re.compile(rb"[\s,;|]")
csv.field_size_limit(2**24)
# What programs write where there is no number, in lower case.
MARKERS = frozenset(
    b"na|n/a|#n/a|#na|<na>|null|none|nil|missing|\\n|nan|-nan|1.#qnan|-1.#qnan|1.#ind|-1.#ind|"
    b"1.#inf|-1.#inf|nan(ind)|-nan(ind)|#div/0!|#num!|.|-|--|?|".split(b"|")
)
_COMMA, _POINT = 44, 46
_FOREIGN_COMMA, _FOREIGN_POINT = 2, 1  # for a comma and a point that make a number invalid


class _TooLittle(Exception):
    """The sample is too short to decide."""


@dataclass(frozen=True)
class Dialect:
    """How to parse a text, from its beginning or from a later place."""

    begin: int
    """The position of the first row's first byte."""
    state: decimals.Integers
    newline: bytes
    separator: str | None
    """The character between fields; None where rows have one field."""
    decimal: str
    comment: bytes
    """The byte that begins a comment among the rows; empty where no comment may follow."""
    comments: int
    """Comment lines before the first row."""
    layout: Layout

    @property
    def commas(self) -> bool:
        """Whether the parser gets fields separated by commas, not by blanks."""
        return self.separator not in (None, BLANK)

    @property
    def rows_matter(self) -> bool:
        """Whether some fields are skipped, so that a piece may end only at a line end."""
        return bool(self.state[decimals.FIRST] or self.layout.column)

    def table(self) -> decimals.Bytes | None:
        """Replacement for each byte before parsing; None where nothing is replaced."""
        table = np.arange(256, dtype=np.uint8)
        if self.newline == b"\r":
            table[13] = 10
        if self.decimal == ",":
            table[_COMMA], table[_POINT] = _POINT, _FOREIGN_POINT
        elif self.commas and self.separator != ",":
            table[_COMMA] = _FOREIGN_COMMA
        if self.separator is not None and self.commas:
            table[ord(self.separator)] = _COMMA
        return None if (table == np.arange(256)).all() else table

    def as_written(self, parsed: bytes) -> bytes:
        """A field as it is written in the file."""
        back = bytes((_FOREIGN_POINT, _FOREIGN_COMMA)), b".,"
        parsed = parsed.replace(b".", b",") if self.decimal == "," else parsed
        return parsed.translate(bytes.maketrans(*back))


def detect(text: Text, name: str, options: Options) -> Dialect:
    """Detect the dialect from the beginning of a text.

    Raises UnreadableInput where the wanted column does not exist, or blanks may separate thousands.
    """
    text.stream.seek(text.mark)
    sample, ended = b"", False
    while True:
        while len(sample) < _MOST and not ended:
            more = text.stream.read(max(_FIRST, len(sample)))
            ended = not more
            sample += more or b""
            if len(sample) >= _FIRST:
                break
        try:
            return _Sample(sample, ended or len(sample) >= _MOST, options).dialect(text, name)
        except _TooLittle:
            continue


class _Sample:
    """The beginning of a text."""

    def __init__(self, data: bytes, ended: bool, options: Options) -> None:
        self._data = data
        self._ended = ended
        self._options = options
        old = b"\n" not in data and b"\r" in data.rstrip(b"\r" if not ended else b"")
        self._newline = b"\r" if old else b"\n"

    def dialect(self, text: Text, name: str) -> Dialect:
        options = self._options
        separator, at = self._separator_line()
        said, at, comments = self._comments(at)
        rows, whole = self._rows(at, _ROWS + (options.header or 0))
        if len(rows) == 1 and not whole and options.header is None and _may_be_names(rows[0]):
            raise _TooLittle
        separator, decimal = _dialect(
            [self._bare(row) for row in rows[options.header or 0 :] or rows[-1:]],
            options.delimiter or separator,
            options.decimal,
        )
        if decimal == "," and separator == BLANK != options.delimiter:
            _refuse_thousands(rows[(options.header or 0) :], name)
        if separator is None:  # for instance where the text is only a header
            separator = next((c for c in ";|\t," if c.encode() in b"".join(rows[:1])), None)
            separator = separator if options.decimal != "," or separator != "," else None
        names, lines = self._header(rows, whole, separator)
        data = (row for row in map(self._bare, rows[lines:]) if row.strip())
        width = len(_split(next(data, b""), separator))
        counted = bool(lines)
        if options.header is not None:
            fitting = [line for line in names if len(line) == width]
            header = fitting[0] if fitting else []
            counted = bool(header) and options.column is not None
        else:
            header = names[0] if names else []
            if separator in (None, BLANK) and width == 1:
                counted, header = False, [" ".join(header)]  # one name of several words
        if not lines and said:
            mark = (options.comment or "#").encode()
            header = _names(said.strip().lstrip(mark).strip(), separator)
            header = header if len(header) == width else []
        first, last, column, index = 0, None, options.column, None
        if column == EVERY_COLUMN:
            column = None
        elif column is not None:
            full = width if lines + 1 < len(rows) or whole else 0
            first = find_column(column, header, len(header) if counted else full, name)
            last = first + 1
        elif lines and len(header) > 1 and not header[0]:
            first, index = 1, "column 1, which has no name"
        comment = (options.comment or "").encode()
        layout = Layout(
            format="csv", columns=0, column=column, header=lines, index=index,
            delimiter=WORDS.get(separator, separator) if separator else None, decimal=decimal,
            compression=text.compression, encoding=text.encoding,
        )  # fmt: skip
        layout = with_names(layout, () if last else header)
        skip = self._after(at, lines)
        state = decimals.new_state(
            commas=separator not in (None, BLANK),
            columns=len(header) if counted else 0,
            first=first,
            comment=comment[0] if comment else 0,
            last=last or decimals.ALL,
        )
        return Dialect(
            text.mark + skip, state, self._newline, separator, decimal, comment, comments, layout
        )

    def _line(self, at: int) -> tuple[bytes, int, bool]:
        """The line at a position, where the next line begins, and whether the line is complete."""
        end = self._data.find(self._newline, at)
        if end < 0:
            return self._data[at:], len(self._data), self._ended
        return self._data[at:end].rstrip(b"\r"), end + 1, True

    def _after(self, at: int, lines: int) -> int:
        for _ in range(lines):
            _, at, _ = self._line(at)
        return at

    def _separator_line(self) -> tuple[str | None, int]:
        line, after, _ = self._line(0)
        found = _SEPARATOR_LINE.fullmatch(line + b" ")
        return (found[1].decode("latin-1"), after) if found else (None, 0)

    def _comments(self, at: int) -> tuple[bytes, int, int]:
        """The last comment line from a position on, where the comments end, and their number."""
        mark, said, count = (self._options.comment or "#").encode(), b"", 0
        while at < len(self._data):
            line, after, whole = self._line(at)
            token = _FIELD_END.split(line.lstrip(), 1)[0]
            if not token.startswith(mark) or token.lower() in MARKERS:
                break
            if not whole:
                raise _TooLittle
            said, at, count = line, after, count + 1
        if at == len(self._data) and not self._ended:
            raise _TooLittle
        return said, at, count

    def _rows(self, at: int, most: int) -> tuple[list[bytes], bool]:
        """At most `most` lines, and whether the last one is complete."""
        rows, whole = list[bytes](), True
        while at < len(self._data) and len(rows) < most:
            line, at, whole = self._line(at)
            if not whole and rows and len(rows) > (self._options.header or 0):
                return rows, True
            rows.append(line)
        return rows, whole

    def _header(
        self, rows: Sequence[bytes], whole: bool, separator: str | None
    ) -> tuple[list[list[str]], int]:
        """The names in each line of the header, and the number of header lines."""
        if (lines := self._options.header) is not None:
            if len(rows) <= lines and not (whole and self._ended):
                raise _TooLittle
            return [_names(row, separator) for row in rows[:lines]], min(lines, len(rows))
        if not rows:
            return [], 0
        if len(rows) == 1 and not whole:
            return [], 0
        names = _names(rows[0], separator)
        checked = names[1:] if len(names) > 1 and not names[0].strip() else names
        if separator in (None, BLANK) and all(len(_split(row, None)) <= 1 for row in rows[1:]):
            # One name may have several words: `temp 2`.
            checked = names[:1] + [name for name in names[1:] if not name.isdigit()]
        return ([names], 1) if checked and all(map(_is_name, checked)) else ([], 0)

    def _bare(self, row: bytes) -> bytes:
        """A row without its comment, and with a letter in place of quoted text."""
        if b'"' in row:
            row = _QUOTED.sub(b"q", row)
        if self._options.comment:
            row = row.split(self._options.comment.encode(), 1)[0]
        return row


def _dialect(
    rows: Sequence[bytes], separator: str | None, decimal: str | None
) -> tuple[str | None, str]:
    """Choose the separator, None where rows have one field, and the decimal mark.

    The best dialect makes all fields numbers. Where none does, as with columns of text, the best
    divides all rows into the same number of fields.
    """
    rows = [row.strip(b" ") for row in rows if row.strip()]
    body = rows[1:] or rows
    seen = b"".join(body)
    # Where commas mark decimals, blanks may separate thousands: tried only if the user asks.
    dialects = [*_DIALECTS, (BLANK, ",")] if decimal else _DIALECTS
    best: tuple[tuple[float, ...], str | None, str] = (-1.0,), separator, decimal or "."
    for place, (each, mark) in enumerate(dialects):
        given = each == separator or separator is None
        there = each.encode() in seen or (each == BLANK and b"\t" in seen) or each == separator
        if not given or not there or decimal not in (None, mark):
            continue
        fits = _fits(body, each, mark)
        alike = fits < 1 and len({len(_split(row, each)) for row in body}) == 1
        # Columns of text fit no dialect; fewer columns could then seem to fit better.
        rank = -_ORDER.index(each) if alike else 0.0
        # The first row may be a header: it counts only where the other rows do not decide.
        key = (fits == 1, alike, rank, fits, _fits(rows[:1], each, mark), -place)
        if key > best[0]:
            best = key, each, mark
    return best[1], best[2]


def _fits(rows: Sequence[bytes], separator: str, decimal: str) -> float:
    """The share of fields that are numbers in this dialect."""
    fields = [field for row in rows for field in _split(row, separator)[:_FIELDS]]
    return sum(_is_number(field, decimal) for field in fields) / max(len(fields), 1)


def _may_be_names(row: bytes) -> bool:
    """Whether an incomplete row may be the beginning of a long header."""
    found = [_names(row, separator) for separator in _ORDER if separator.encode() in row]
    return not found or any(all(map(_is_name, names[1:-1] or names[:1])) for names in found)


def _refuse_thousands(rows: Sequence[bytes], name: str) -> None:
    """Raise UnreadableInput where each row may be one number with blanks between thousands."""
    if rows and all(_THOUSANDS.fullmatch(row.strip()) for row in rows if row.strip()):
        shown = rows[0].strip()[:_FIELDS].decode(errors="replace")
        raise UnreadableInput(
            f"{name}: {shown!r} may be one number or several: remove the blanks between thousands, "
            'or submit with "delimiter": "blank"'
        )


def _split(row: bytes, separator: str | None) -> list[bytes]:
    if separator in (None, BLANK):
        return row.split()
    return row.split(separator.encode())


def _is_number(field: bytes, decimal: str = ".") -> bool:
    field = field.strip()
    if _NUMBERS[decimal].fullmatch(field) or field.lower() in MARKERS:
        return True
    return value_of(field) is not None and not field[-1:].isdigit()  # inf and the like


def value_of(field: bytes) -> float | None:
    """The value of a field by Python's float; None where it is not a number."""
    if b"_" in field:  # float accepts 1_000
        return None
    try:
        return float(field)
    except ValueError:
        return None


def _names(line: bytes, separator: str | None) -> list[str]:
    text = line.decode(errors="replace")
    if separator in (None, BLANK):
        separator, text = BLANK, " ".join(text.split())
    try:
        fields = next(csv.reader([text], delimiter=separator, skipinitialspace=True), list[str]())
    except csv.Error:  # the line holds a carriage return or a zero byte
        return [text]
    return [field.strip() for field in fields]


def _is_name(field: str) -> bool:
    """Whether a field is the name of a column, and not a decorated number (`$5`, `"1.5"`)."""
    bare = field.encode().strip(b"\"'").strip()
    if not field.replace("\t", "").isprintable() or _NOT_FINITE.fullmatch(field):
        return False  # binary data, or no name
    if not bare or bare.lower() in MARKERS or value_of(bare) is not None:
        return False
    name = bare.decode(errors="replace")
    is_numeral = unicodedata.category(name.lstrip("([")[:1] or " ").startswith("N")  # such as ½
    return not is_numeral and _NAME.match(name) is not None
