"""What happens to a job: it waits by priority, it may be cancelled, a crash is repaired."""

import pytest

from deployments import submit
from tasks.errors import JobCancelledError
from tests.support.platform import Platform, pause, wait_until
from tests.support.processes import processes_of

SMALL, ENDLESS = {"upper_bound": 100}, {"upper_bound": 10**10}


def test_high_is_served_first(prefecture: Platform) -> None:
    with pause(prefecture):
        low = submit("find-primes", SMALL, "order", queue="low")
        high = submit("find-primes", SMALL, "order", queue="high")
        before_high, before_low = high.progress().ahead, low.progress().ahead
        assert before_high is not None
        assert before_low is not None
        assert before_high < before_low
    for job in (high, low):
        job.wait()


def test_cancel(prefecture: Platform) -> None:
    job = submit("find-primes", ENDLESS, "cancelled", queue="high")
    wait_until(lambda: job.status == "Running", what="it runs")
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.wait()
    assert not (prefecture.results / "cancelled").exists()


@pytest.mark.thorough
def test_crash_is_tried_again(prefecture: Platform) -> None:
    job = submit("find-primes", {"upper_bound": 10**9}, "crashed", queue="high")
    wait_until(lambda: processes_of(prefecture, job.id), what="it runs")[0].kill()
    assert job.wait().results().manifest.attempt == 2


def test_one_final_event(prefecture: Platform) -> None:
    job = submit("find-primes", SMALL, "events").wait()
    wanted = {"filter": {"resource": {"id": [f"prefecture.job.{job.id}"]}}}

    def names() -> list[str]:
        found = prefecture.rest("POST", "/events/filter", wanted).json()["events"]
        return sorted(event["event"].removeprefix("prefecture.job.") for event in found)

    # The server lists an event up to some seconds after it was emitted, each in its own time.
    wait_until(lambda: len(names()) >= 3, what="its events")
    assert names() == ["completed", "received", "started"]
