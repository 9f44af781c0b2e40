"""How work is divided, and what is tried twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.averages.partition import Cost, Part, partition, size_of_parts
from tasks.averages.speculation import SpeculationRule

SECONDS = st.floats(0.001, 1000)


@given(st.integers(1, 100_000), st.integers(1, 256), SECONDS, SECONDS)
def test_no_worker_idles_and_none_gets_too_much(
    files: int, workers: int, start: float, file: float
) -> None:
    size = size_of_parts(files, workers, Cost(start, file))
    assert 1 <= size <= files
    if workers > 1 and files * file > start:
        assert size <= -(-files // workers)
    else:
        assert size == files


def test_the_size_is_that_of_the_least_time() -> None:
    files, workers, start, file = 10_000, 8, 2.0, 0.05

    def seconds(size: int) -> float:
        return files / (workers * size) * (start + size * file) + size * file / 2

    best = size_of_parts(files, workers, Cost(start, file))
    assert min(range(1, files // workers), key=seconds) == pytest.approx(best, abs=1)


@given(st.integers(1, 2_000), st.integers(1, 2_000))
def test_every_file_is_in_one_part(files: int, size: int) -> None:
    parts = partition(files, size)
    assert [n for part in parts for n in range(part.first, part.end)] == list(range(files))
    assert all(Part.parse(str(part)) == part for part in parts)


@pytest.mark.parametrize(
    ("parts", "finished", "running", "copies", "slow"),
    [
        (8, 6, {"a": 13.0, "b": 12.0, "c": 14.0}, 0, ["c"]),  # a tenth, one at least
        (80, 60, {"a": 13.0, "b": 11.0, "c": 14.0}, 0, ["c", "a"]),
        (8, 5, {"a": 99.0}, 0, []),  # not enough are done
        (8, 6, {"a": 99.0}, 1, []),  # copied enough
        (2, 1, {"a": 35.0}, 0, []),  # few: 30 s over the mean
        (2, 1, {"a": 41.0}, 0, ["a"]),
        (8, 0, {"a": 99.0}, 0, []),
    ],
)
def test_what_is_copied(
    parts: int, finished: int, running: dict[str, float], copies: int, slow: list[str]
) -> None:
    done = {str(number): 10.0 for number in range(finished)}
    assert SpeculationRule().slow(parts, done, running, copies) == slow
