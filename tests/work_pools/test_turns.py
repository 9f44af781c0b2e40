"""How often a host's turn comes; time is the test's."""

import pytest

from work_pools import turns
from work_pools.turns import Turns


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(turns.time, "monotonic", clock)
    return clock


def taken(clock: Clock, own: Turns, seconds: int) -> int:
    """How many turns somebody has who asks once a second."""
    count = 0
    for _ in range(seconds):
        count += own.take()
        clock.now += 1
    return count


def test_a_host_that_is_alone_always_has_its_turn(clock: Clock) -> None:
    assert taken(clock, Turns(2, lambda: 1), 100) == 100


def test_many_hosts_together_have_a_turn_each_interval(clock: Clock) -> None:
    one_of_forty = Turns(2, lambda: 40)
    # Each 80 s; at random a quarter more or less.
    assert 8000 / 100 <= taken(clock, one_of_forty, 8000) <= 8000 / 60 + 1


def test_a_few_take_no_turns(clock: Clock) -> None:
    assert taken(clock, Turns(2, lambda: 4, few=4), 100) == 100
    assert taken(clock, Turns(2, lambda: 40, few=4), 100) <= 100 / 15 + 1


def test_a_host_that_becomes_alone_does_not_wait_for_its_turn(clock: Clock) -> None:
    hosts = 40
    own = Turns(2, lambda: hosts)
    assert own.take()
    assert not own.take()
    hosts = 1
    assert own.take()


def test_a_turn_can_be_had_at_once(clock: Clock) -> None:
    own = Turns(2, lambda: 40)
    assert own.take()
    own.hasten()
    assert own.take()
    assert not own.take()
