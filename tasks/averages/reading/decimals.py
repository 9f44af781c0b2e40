"""Parses decimal numbers in text to the nearest float64, as fast as a disk delivers them.

The method is Eisel and Lemire's (D. Lemire, "Number parsing at a gigabyte per second", Software:
Practice and Experience 51, 2021, pp. 1700-1727): the decimal significand times a power of ten in
128 bits, which decides the rounding for nearly every number; the rest is left to Python's float.
It is compiled here, because no library on PyPI parses text into float64 as fast on one core
without the interpreter lock: benchmarks/average_files.py measures polars and pyarrow.
"""

import numpy as np
from numpy import uint64
from numpy.typing import NDArray

from tasks.averages.reading.compiled import compiled, inlined

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_LEAST, _MOST = -342, 308  # powers of ten beyond which every number is 0 or infinite
_DIGITS = 19  # decimal digits that a 64-bit significand holds


def _powers_of_ten() -> tuple[Words, Words]:
    """The first 128 bits of 10**q for every q, in two halves: truncated, not rounded."""
    high, low = list[int](), list[int]()
    for q in range(_LEAST, _MOST + 1):
        # 10**q without its power of two, which only changes the exponent.
        five = 5 ** abs(q)
        if q >= 0:
            bits = five.bit_length()
            power = five << (128 - bits) if bits <= 128 else five >> (bits - 128)
        else:
            # Rounded up, as the proof of the method asks for reciprocals.
            shift = five.bit_length() + 127
            power = (1 << shift) // five + 1
        assert power.bit_length() == 128
        high.append(power >> 64)
        low.append(power & (2**64 - 1))
    return np.array(high, np.uint64), np.array(low, np.uint64)


HIGH, LOW = _powers_of_ten()
_EXACT = np.array([10.0**q for q in range(23)])  # the powers of ten that are float64

END, FULL, ODD, RAGGED = 0, 1, 2, 3
# Indices into the state of `parse`, an array of integers. First the layout of the text: whether
# commas separate fields, or blanks; the fields of a row, 0 where the first row decides and -1 where
# rows may differ; the first field to read, and the first not to read; and the byte that begins a
# comment, or 0.
COMMAS, COLUMNS, FIRST, LAST, COMMENT = range(5)
# Then the position in the text: the field in the row, from 0; whether that field has a value; and
# the number of empty lines just before.
COLUMN, FILLED, EMPTY = range(5, 8)
ALL = 2**62  # more fields than any row has


def new_state(
    *, commas: bool, columns: int = 0, first: int = 0, last: int = ALL, comment: int = 0
) -> Integers:
    """Make the state for the beginning of a text with this layout."""
    return np.array([commas, columns, first, last, comment, 0, 0, 0], np.int64)


@inlined
def _times(a: uint64, b: uint64) -> tuple[uint64, uint64]:
    """The high and the low half of a 64-bit product."""
    mask, half = uint64(0xFFFFFFFF), uint64(32)
    a0, a1, b0, b1 = a & mask, a >> half, b & mask, b >> half
    middle = a1 * b0 + ((a0 * b0) >> half)
    other = a0 * b1 + (middle & mask)
    return a1 * b1 + (middle >> half) + (other >> half), a * b


@inlined
def _nearest(w: uint64, q: int, high: Words, low: Words, bits: Words) -> bool:
    """Write the float64 nearest to w * 10**q to `bits`. Returns whether that is certain."""
    zeros = 0
    for step in (32, 16, 8, 4, 2, 1):
        if w >> uint64(64 - step) == uint64(0):
            w <<= uint64(step)
            zeros += step
    upper, lower = _times(w, high[q - _LEAST])
    if upper & uint64(0x1FF) == uint64(0x1FF):
        more, _ = _times(w, low[q - _LEAST])
        lower += more
        if lower < more:
            upper += uint64(1)
        if lower == uint64(0xFFFFFFFFFFFFFFFF) and (q < -27 or q > 55):
            return False
    top = upper >> uint64(63)
    shift = top + uint64(9)
    mantissa = upper >> shift
    exponent = ((217706 * q) >> 16) + 63 + 1023 + np.int64(top) - zeros
    if exponent <= 0 or exponent >= 2046:
        return False
    if (
        lower <= uint64(1)
        and -4 <= q <= 23
        and mantissa & uint64(3) == uint64(1)
        and mantissa << shift == upper
    ):
        mantissa &= ~uint64(1)  # half way: to even
    mantissa += mantissa & uint64(1)
    mantissa >>= uint64(1)
    if mantissa >= uint64(1) << uint64(53):
        mantissa = uint64(1) << uint64(52)
        exponent += 1
    bits[0] = (mantissa & ~(uint64(1) << uint64(52))) | (uint64(exponent) << uint64(52))
    return True


@inlined
def _digits(data: Bytes, i: int, end: int, w: uint64) -> tuple[uint64, int]:
    """Append the digits from `i` on to `w`, modulo 2**64. Returns `w` and the digits' end.

    Eight at a time (D. Lemire, "Quickly parsing eight digits", 2018), as one little-endian word.
    """
    while i + 8 <= end:
        k = uint64(i)
        v = (
            uint64(data[k])
            | uint64(data[k + uint64(1)]) << uint64(8)
            | uint64(data[k + uint64(2)]) << uint64(16)
            | uint64(data[k + uint64(3)]) << uint64(24)
            | uint64(data[k + uint64(4)]) << uint64(32)
            | uint64(data[k + uint64(5)]) << uint64(40)
            | uint64(data[k + uint64(6)]) << uint64(48)
            | uint64(data[k + uint64(7)]) << uint64(56)
        )
        high = uint64(0xF0F0F0F0F0F0F0F0)
        over = (v + uint64(0x0606060606060606)) & high
        if (v & high) | (over >> uint64(4)) != uint64(0x3333333333333333):
            break
        v -= uint64(0x3030303030303030)
        v = v * uint64(10) + (v >> uint64(8))
        pairs = uint64(0x000000FF000000FF)
        v = (
            (v & pairs) * uint64(0x000F424000000064)
            + ((v >> uint64(16)) & pairs) * uint64(0x0000271000000001)
        ) >> uint64(32)
        w = w * uint64(100000000) + v
        i += 8
    while i < end and 48 <= data[i] <= 57:
        w = w * uint64(10) + uint64(data[i] - 48)
        i += 1
    return w, i


@inlined
def _ends(c: np.uint8) -> bool:
    return c == 10 or c == 44 or c == 13 or c == 32 or c == 9


@inlined
def _skipped(data: Bytes, i: int, end: int, commas: bool, comment: int) -> int:
    """The end of a field to skip; `i` itself where its quotes do not end in its line."""
    begin = i
    if data[i] == 34:  # a quote
        while i < end and data[i] == 34:  # a doubled quote is part of the field
            i += 1
            while i < end and data[i] != 34 and data[i] != 10:
                i += 1
            if i == end or data[i] == 10:
                return begin
            i += 1
    while i < end and data[i] != 10 and (comment == 0 or data[i] != comment):
        if data[i] == 44 if commas else (data[i] == 32 or data[i] == 9):
            break
        i += 1
    return i


@compiled
def _parse(
    data: Bytes,
    start: int,
    end: int,
    state: Integers,
    out: Floats,
    high: Words,
    low: Words,
    exact: Floats,
) -> tuple[int, int, int]:
    """See `parse`."""
    bits = np.empty(1, np.uint64)
    value = bits.view(np.float64)
    commas, columns, comment = state[COMMAS] != 0, state[COLUMNS], state[COMMENT]
    first, last = state[FIRST], state[LAST]
    column, filled, empty = state[COLUMN], state[FILLED] != 0, state[EMPTY]
    i, n, why = start, 0, END
    while True:
        while i < end:
            c = data[i]
            if c == 10:
                if filled:
                    if column + 1 != columns:
                        if columns > 0:
                            why = RAGGED
                            break
                        if columns == 0:
                            columns = column + 1
                    column, filled = 0, False
                elif column:  # an empty field behind the last comma
                    if first <= column < last:
                        why = ODD
                        break
                    filled = True
                    continue
                else:
                    empty += 1
            elif c == 44:
                if not commas or (not filled and (empty or first <= column < last)):
                    why = ODD
                    break
                column += 1
                filled = False
            elif c != 13 and c != 32 and c != 9:
                break
            i += 1
        if why != END or i == end:
            break
        why = ODD
        if empty or (commas and filled) or data[i] == comment:
            break
        if filled:
            column += 1
            filled = False
        if column < first or column >= last:
            at = i
            i = _skipped(data, i, end, commas, comment)
            if i == at:
                break
            filled, why = True, END
            continue
        if n == out.shape[0]:
            why = FULL
            break
        token = i
        negative = data[i] == 45
        if negative or data[i] == 43:
            i += 1
        begin = i
        w, i = _digits(data, i, end, uint64(0))
        digits, fraction = i - begin, 0
        if i < end and data[i] == 46:
            w, after = _digits(data, i + 1, end, w)
            fraction = after - i - 1
            digits += fraction
            i = after
        if digits > _DIGITS:  # leading zeros do not count
            while begin < i and (data[begin] == 48 or data[begin] == 46):
                digits -= data[begin] == 48
                begin += 1
            if digits == 0:
                digits = 1
        q = -fraction
        if i < end and (data[i] == 101 or data[i] == 69):
            i += 1
            down = i < end and data[i] == 45
            if down or (i < end and data[i] == 43):
                i += 1
            power, mark = 0, i
            while i < end and 48 <= data[i] <= 57:
                if power < 100000:
                    power = power * 10 + int(data[i]) - 48
                i += 1
            if i == mark:
                digits = 0
            q += -power if down else power
        if digits == 0 or digits > _DIGITS or (i < end and not _ends(data[i])):
            i = token
            break
        if w == uint64(0):
            value[0] = 0.0
        elif -22 <= q <= 22 and w <= uint64(9007199254740992):
            if q < 0:
                value[0] = np.float64(w) / exact[-q]
            else:
                value[0] = np.float64(w) * exact[q]
        elif q < _LEAST or q > _MOST or not _nearest(w, q, high, low, bits):
            i = token
            break
        out[n] = -value[0] if negative else value[0]
        n += 1
        filled, why = True, END
    state[COLUMNS], state[COLUMN], state[FILLED], state[EMPTY] = columns, column, filled, empty
    return n, i, why


def parse(data: Bytes, start: int, end: int, state: Integers, out: Floats) -> tuple[int, int, int]:
    """Parse the numbers of `data[start:end]`, which ends at the end of a field, into `out`.

    `state`, from new_state, says how fields are separated and which are read, and is updated.
    Returns the count of numbers, the position reached, and why parsing stopped: at the END, `out`
    is FULL, something ODD begins there, or the row that ends there is RAGGED: its number of fields
    is not the expected one. Odd is a token that needs Python's float, an empty field to be read, a
    comment, anything that follows an empty line, a second number in one field between commas, and
    a comma where blanks separate. `data` is never read beyond `end`.
    """
    return _parse(data, start, end, state, out, HIGH, LOW, _EXACT)


@compiled
def translate(data: Bytes, start: int, end: int, table: Bytes) -> None:
    """Replace each byte of `data[start:end]` by the table's entry for it."""
    for i in range(start, end):
        data[i] = table[data[i]]
