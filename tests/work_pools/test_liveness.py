"""Who is silent; time is the test's."""

import pytest

from work_pools.supervisor import liveness
from work_pools.supervisor.liveness import Liveness


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(liveness.time, "monotonic", lambda: now[0])
    return now


def test_silence_grows_only_while_somebody_listens(now: list[float]) -> None:
    heard = Liveness()
    heard.note("host", 1, timeout=20)
    heard.refreshed()
    now[0] += 50
    assert heard.silence("host") == 0
    assert heard.since_refreshed == 50
    heard.refreshed()
    assert heard.silence("host") == 50
    assert heard.is_silent("host")
    assert not heard.is_silent("host", times=3)


@pytest.mark.parametrize(("said", "silent"), [(1, True), (2, False)])
def test_who_says_the_same_again_is_silent(now: list[float], said: int, silent: bool) -> None:
    heard = Liveness()
    heard.note("host", 1, timeout=20)
    now[0] += 50
    heard.note("host", said, timeout=20)
    heard.refreshed()
    assert heard.is_silent("host") is silent
    assert heard.any_is_silent("ho") is silent
    assert not heard.any_is_silent("other")


def test_who_was_never_heard_of_is_silent_after_as_long_as_anybody(now: list[float]) -> None:
    heard = Liveness()
    assert not heard.is_silent("host")
    heard.expect("host", timeout=20)
    now[0] += 19
    heard.refreshed()
    assert not heard.is_silent("host")
    heard.expect("host", timeout=20)
    now[0] += 2
    heard.refreshed()
    assert heard.is_silent("host")


def test_no_silence_counts_that_began_while_nobody_could_be_heard(now: list[float]) -> None:
    heard = Liveness()
    heard.note("host", 1, timeout=20)
    now[0] += 50
    heard.forget()
    heard.note("host", 1, timeout=20)
    heard.refreshed()
    assert not heard.is_silent("host")
