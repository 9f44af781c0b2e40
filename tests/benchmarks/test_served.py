"""How out of turn is counted."""

from tests.support.several.served import inversions


def test_a_job_that_takes_the_slot_of_another_is_counted() -> None:
    assert inversions("abcdef", "abcdef", 1) == 0
    assert inversions("abcdef", "bacdef", 1) == 1
    assert inversions("abcdef", "bacdfe", 2) == 0
    assert inversions("abcdef", "cabdef", 2) == 1
    assert inversions("abcdef", "fedcba", 1) == 5
