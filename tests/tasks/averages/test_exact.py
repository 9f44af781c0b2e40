"""Exact sums against rational arithmetic, in any order."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.averages.reading import warm
from tasks.averages.reading.exact import ExactSum, Floats

# Far enough from the ends of float64 for a few hundred of them to be summed.
FINITE = st.floats(-1e300, 1e300, allow_subnormal=True)
COLUMNS = st.lists(st.lists(FINITE, min_size=3, max_size=3), min_size=1, max_size=40)


def sum_of(size: int) -> ExactSum:
    return ExactSum(np.zeros(size), np.zeros(size))


def mean_of(rows: list[Floats]) -> Floats:
    # Two at a time: the last part is shorter.
    sums, error = sum_of(len(rows[0])), np.empty(2)
    for row in rows:
        assert sums.add(row, error)
    means = np.empty(len(rows[0]))
    sums.mean(np.full(len(means), float(len(rows))), means)
    return means


def exact_mean(numbers: list[float]) -> float:
    """The quotient of integers is rounded once by Python itself."""
    return float(sum(map(Fraction, numbers)) / len(numbers))


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What is compiled when first called, is before hypothesis looks at the clock."""
    warm.main()


@given(COLUMNS)
def test_the_mean_is_the_exact_one_rounded_once(rows: list[list[float]]) -> None:
    means = mean_of([np.array(row) for row in rows])
    for index, mean in enumerate(means.tolist()):
        assert mean == exact_mean([row[index] for row in rows])


@given(
    files=st.integers(2, 1000),
    odd=st.integers(2**52, 2**53 - 1),
    beside=st.sampled_from([0.0, 1.0, -1.0]),
    down=st.integers(0, 200),
    scale=st.integers(-800, 800),
)
def test_a_mean_beside_the_middle_of_two_numbers(
    files: int, odd: int, beside: float, down: int, scale: int
) -> None:
    """Numbers whose sum is `files` times a half more than an integer of 53 bits, and a little."""
    left = Fraction(2 * odd + 1, 2) * files + Fraction(beside) / 2**down
    numbers: list[float] = []
    while left and len(numbers) < files:
        numbers.append(float(left))
        left -= Fraction(numbers[-1])
    numbers = [math.ldexp(number, scale) for number in numbers]
    numbers += [0.0] * (files - len(numbers))
    rows = [np.array([number]) for number in numbers]
    assert mean_of(rows)[0] == exact_mean(numbers)


def test_three_that_differ_widely() -> None:
    numbers = [2.4518622826087144e23, -1.115693984517422e-16, 4.047327139785083e22]
    mean = mean_of([np.array([number]) for number in numbers])[0]
    assert mean.hex() == exact_mean(numbers).hex()
    assert mean.hex().endswith("8dp+76")


def test_means_of_many_threes() -> None:
    random = np.random.default_rng(6)
    size = 20_000
    rows = [random.standard_normal(size) * 10.0 ** random.integers(-40, 40, size) for _ in range(3)]
    means = mean_of(rows)
    columns = zip(*(row.tolist() for row in rows), strict=True)
    assert means.tolist() == [exact_mean([*column]) for column in columns]


@given(COLUMNS, st.randoms(use_true_random=False))
def test_no_order_changes_a_bit(rows: list[list[float]], random: "np.random.Generator") -> None:
    arrays = [np.array(row) for row in rows]
    before = mean_of(arrays).tobytes()
    random.shuffle(arrays)  # pyright: ignore[reportArgumentType]
    assert mean_of(arrays).tobytes() == before


@pytest.mark.parametrize(
    "numbers",
    [
        [1e300, 1.0, -1e300],
        [1e16, 1.0, 1e-16, -1e16],
        [1e100, 1e50, 1.0, 1e-50, 1e-100, -1e100, -1e50],
        [5e-324, 5e-324, 5e-324],
        [0.1] * 10,
        [-0.0, 0.0],
        [2.0**1000, 2.0**-1000],
    ],
)
def test_what_cancels(numbers: list[float]) -> None:
    mean = mean_of([np.array([number]) for number in numbers])[0]
    assert mean == exact_mean(numbers)


def test_ten_thousand_files() -> None:
    random = np.random.default_rng(5)
    rows = [random.standard_normal(50) * 10.0 ** random.integers(-8, 8, 50) for _ in range(10_000)]
    means = mean_of(rows)
    for index in range(50):
        assert means[index] == exact_mean([float(row[index]) for row in rows])


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_spoils_the_sum(wrong: float) -> None:
    sums, error = sum_of(2), np.empty(2)
    assert sums.add(np.array([1.0, 2.0]), error)
    assert not sums.add(np.array([1.0, wrong]), error)


def test_a_sum_out_of_range_is_reported() -> None:
    sums, error = sum_of(1), np.empty(1)
    assert sums.add(np.array([1.7e308]), error)
    assert not sums.add(np.array([1.7e308]), error)
