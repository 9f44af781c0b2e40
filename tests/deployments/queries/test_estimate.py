"""Estimates: numbers in, numbers out."""

import pytest

from deployments.jobs.queries.estimate import (
    Typical,
    estimate_end,
    estimate_start,
    in_words,
    typical_times,
)

TYPICAL = {"short": Typical(10.0, 5), "long": Typical(100.0, 3)}


def test_typical_time_is_the_median() -> None:
    ran = [("a", 1.0), ("a", 2.0), ("a", 90.0), ("b", 5.0)]
    assert typical_times(ran) == {"a": Typical(2.0, 3), "b": Typical(5.0, 1)}


def test_work_before_a_job_is_shared_out_over_the_slots() -> None:
    # Left of what runs: 60 s and 0 s. Before it: four jobs of 40 s on average.
    found = estimate_start(
        4, {"short": 4, "long": 2}, [("long", 40.0), ("short", 15.0)], 2, TYPICAL
    )
    assert found is not None
    assert found.seconds == pytest.approx((60 + 4 * 40) / 2)
    assert "4 before it, 2 running, 2 at once" in found.basis
    assert "long 1m40s (median of the last 3)" in found.basis


def test_free_slot_starts_the_next_job_now() -> None:
    found = estimate_start(0, {}, [("long", 0.0)], 2, TYPICAL)
    assert found is not None
    assert found.seconds == 0


def test_new_task_is_taken_for_one_like_the_others() -> None:
    found = estimate_start(1, {"new": 1}, [], 1, TYPICAL)
    assert found is not None
    assert found.seconds == pytest.approx(55.0)


@pytest.mark.parametrize(("slots", "typical"), [(0, TYPICAL), (2, {})])
def test_no_estimate_without_a_basis(slots: int, typical: dict[str, Typical]) -> None:
    assert estimate_start(3, {}, [], slots, typical) is None


def test_end_at_the_pace_so_far() -> None:
    found = estimate_end(0.25, 30.0, "short", TYPICAL)
    assert found is not None
    assert found.seconds == pytest.approx(90.0)
    assert found.basis == "25% is done after 30s"


def test_end_without_progress_is_that_of_the_others() -> None:
    found = estimate_end(0.0, 30.0, "long", TYPICAL)
    assert found is not None
    assert found.seconds == 70.0
    assert estimate_end(0.0, 30.0, "short", TYPICAL) is None
    assert estimate_end(0.0, 30.0, "new", TYPICAL) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        *((0.04, "0.0s"), (9.94, "9.9s"), (59.6, "1m00s"), (192, "3m12s"), (3599.7, "1h00m")),
        *((7500, "2h05m"), (86399.9, "1d00h"), (273600, "3d04h")),
    ],
)
def test_duration_in_a_few_characters(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
