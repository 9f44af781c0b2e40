"""Every decimal number that is parsed, to the bit, against Python's own float."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.averages.reading import warm
from tasks.averages.reading.decimals import END, FULL, ODD, RAGGED, new_state, parse


def parsed(text: str, room: int = 100) -> tuple[list[float], int, int]:
    data, out = np.frombuffer(text.encode(), np.uint8), np.empty(room)
    state = new_state(commas="," in text, columns=-1)
    count, at, why = parse(data, 0, len(data), state, out)
    return out[:count].tolist(), at, why


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What is compiled when first called, is before hypothesis looks at the clock."""
    warm.main()


def assert_as_float(text: str) -> None:
    numbers, at, why = parsed(text)
    if why == ODD:  # left to float by whoever calls
        assert (numbers, at) == ([], 0)
        return
    assert why == END
    assert struct.pack("d", numbers[0]) == struct.pack("d", float(text))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_as_python_writes_it(number: float) -> None:
    assert_as_float(repr(number))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_as_numpy_writes_it(number: float) -> None:
    assert_as_float(f"{number:.18e}")


@given(st.from_regex(r"[-+]?[0-9]{1,19}(\.[0-9]{0,19})?([eE][-+]?[0-9]{1,3})?", fullmatch=True))
def test_any_decimal(text: str) -> None:
    assert_as_float(text)


@given(st.integers(2**52, 2**53 - 1), st.integers(0, 3))
def test_half_way_between_two(mantissa: int, power: int) -> None:
    assert_as_float(f"{(2 * mantissa + 1) * 5**power}e-{power}")


@given(st.integers(2**63, 10**19 - 1), st.integers(-340, 308))
def test_nineteen_digits(significand: int, power: int) -> None:
    assert_as_float(f"{significand}e{power}")


def test_most_numbers_need_no_second_look() -> None:
    random = np.random.default_rng(1)
    texts = [repr(x) for x in (random.standard_normal(5_000) * 1e3).tolist()]
    numbers, _, why = parsed("\n".join(texts), len(texts))
    assert why == END
    assert numbers == [float(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "numbers", "at", "why"),
    [
        ("", [], 0, END),
        ("1", [1.0], 1, END),
        ("1\n2\r\n3\t4  5\n6\n", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 14, END),
        ("1\n2\r\n3,\t4, 5\n6\n", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 15, END),
        ("1, 2 3", [1.0, 2.0], 5, ODD),
        ("1\n\n6\n", [1.0], 3, ODD),
        ("1\n,6\n", [1.0], 2, ODD),
        ("1\n\n", [1.0], 3, END),
        ("-0,+.5,5.,00012", [-0.0, 0.5, 5.0, 12.0], 15, END),
        ("1,,2", [1.0], 2, ODD),
        ("1,\n2", [1.0], 2, ODD),
        ("1 two", [1.0], 2, ODD),
        ("1 2x", [1.0], 2, ODD),
        ("1 2e", [1.0], 2, ODD),
        ("1 -", [1.0], 2, ODD),
        ("1 1.2.3", [1.0], 2, ODD),
        ("nan", [], 0, ODD),
        ("1 1e999", [1.0], 2, ODD),
        ("1 12345678901234567890", [1.0], 2, ODD),
    ],
)
def test_what_stands_between(text: str, numbers: list[float], at: int, why: int) -> None:
    assert parsed(text) == (numbers, at, why)


@pytest.mark.parametrize(
    ("text", "numbers", "at", "why"),
    [
        ("a,1,x\n,2,\n", [1.0, 2.0], 10, END),
        ('"a,""b""",1,x\n"",2,\n', [1.0, 2.0], 20, END),
        ("a,1,x\nb,2\n", [1.0, 2.0], 9, RAGGED),
        ("a,1,x\nb,,y\n", [1.0], 8, ODD),
        ('"a,1,x\n', [], 0, ODD),
        ("a 1 x\nb\t2  y\n", [1.0, 2.0], 13, END),
    ],
)
def test_one_column_of_three(text: str, numbers: list[float], at: int, why: int) -> None:
    data, out = np.frombuffer(text.encode(), np.uint8), np.empty(9)
    state = new_state(commas="," in text, first=1, last=2)
    count, reached, stopped = parse(data, 0, len(data), state, out)
    assert (out[:count].tolist(), reached, stopped) == (numbers, at, why)


def test_room() -> None:
    assert parsed("1 2 3", room=2) == ([1.0, 2.0], 4, FULL)
