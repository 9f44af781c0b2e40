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
def test_within_one_ulp_of_the_exact_mean(rows: list[list[float]]) -> None:
    means = mean_of([np.array(row) for row in rows])
    for index, mean in enumerate(means.tolist()):
        exact = exact_mean([row[index] for row in rows])
        assert abs(mean - exact) <= math.ulp(exact)


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
    exact = exact_mean(numbers)
    assert abs(mean - exact) <= math.ulp(exact)


def test_ten_thousand_files() -> None:
    random = np.random.default_rng(5)
    rows = [random.standard_normal(50) * 10.0 ** random.integers(-8, 8, 50) for _ in range(10_000)]
    means = mean_of(rows)
    for index in range(50):
        exact = exact_mean([float(row[index]) for row in rows])
        assert abs(means[index] - exact) <= math.ulp(exact)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_spoils_the_sum(wrong: float) -> None:
    sums, error = sum_of(2), np.empty(2)
    assert sums.add(np.array([1.0, 2.0]), error)
    assert not sums.add(np.array([1.0, wrong]), error)


def test_a_sum_out_of_range_is_told() -> None:
    sums, error = sum_of(1), np.empty(1)
    assert sums.add(np.array([1.7e308]), error)
    assert not sums.add(np.array([1.7e308]), error)
