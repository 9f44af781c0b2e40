"""Jobs that wait are held, released, and moved to another queue."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from deployments import Job, submit
from tasks.errors import PrefectureError
from tests.support.platform import Platform, pause, wait_until

SHORT = {"upper_bound": 100}
AT_ONCE = 8


def states(platform: Platform, run: str) -> list[str]:
    """The names of the states of a flow run, the oldest first."""
    found: list[dict[str, Any]] = platform.rest(
        "GET", f"/flow_run_states/?flow_run_id={run}"
    ).json()
    return [each["name"] for each in sorted(found, key=lambda each: each["timestamp"])]


def test_a_job_is_held_moved_and_released(here: Platform) -> None:
    with pause(here):
        job = submit("find-primes", SHORT, "held", queue="low", tags=["hold"])
        job.hold()
        job.hold()
        assert job.status == "Held"
        assert "it is held" in here.command("prefecture", "explain", str(job.id)).stdout
        words = ("move", "high", "--tag", "hold", "--state", "held", "--yes")
        moved = here.command("prefecture", *words)
        assert moved.stdout.strip() == f"job {job.id} is in the queue high now", moved.stderr
        assert (job.status, job.progress().attempt) == ("Held", 2)
    assert job.status == "Held"
    job.release()
    assert job.wait(240).status == "Completed"
    assert (here.results / "held" / str(job.id)).is_dir(), "it has kept its id"
    assert states(here, str(job.id)) == ["Scheduled", "Pending", "Held", "Moved"]
    for change in (job.hold, job.release, lambda: job.move("low")):
        with pytest.raises(PrefectureError, match=f"job {job.id} is completed"):
            change()


def test_a_moved_job_keeps_its_place_among_those_of_its_new_queue(here: Platform) -> None:
    with pause(here):
        first = submit("find-primes", SHORT, "moved", queue="low")
        second = submit("find-primes", SHORT, "moved", queue="high")
        before = second.progress().ahead
        first.move("high")
        assert second.progress().ahead == (before or 0) + 1
        first.move("high")
        first.cancel()
        second.cancel()


def test_a_job_that_is_moved_while_it_is_being_held_is_held_there(here: Platform) -> None:
    with pause(here), ThreadPoolExecutor(1) as thread:
        job = submit("find-primes", SHORT, "held-moved", queue="high")
        holding = thread.submit(job.hold)
        wait_until(lambda: job.status == "Pending", what="the hold has begun", every=0)
        job.move("low")
        holding.result()
        assert (job.status, job.progress().attempt) == ("Held", 2)
        job.cancel()


@pytest.mark.thorough
def test_a_job_that_is_held_while_a_worker_takes_it_runs_once_or_not_at_all(
    here: Platform,
) -> None:
    def submit_and_hold(_: int) -> tuple[Job, bool]:
        job = submit("find-primes", SHORT, "race", queue="high")
        try:
            job.hold()
        except PrefectureError:
            return job, False
        return job, True

    with ThreadPoolExecutor(AT_ONCE) as threads:
        tried = [*threads.map(submit_and_hold, range(2 * AT_ONCE))]
    for job, is_held in tried:
        if is_held:
            assert states(here, str(job.id))[-1] == "Held"
            job.release()
    for job, _ in tried:
        job.wait(240)
        assert states(here, str(job.id)).count("Running") == 1


@pytest.mark.thorough
def test_a_hold_that_was_killed_is_completed(here: Platform) -> None:
    with pause(here):
        job = submit("find-primes", SHORT, "held", queue="low")
        claim = {"state": {"type": "PENDING", "message": "held on request"}}
        here.rest("POST", f"/flow_runs/{job.id}/set_state", claim)
        wait_until(lambda: here.run(job.id)["state_type"] == "PAUSED", what="it is held")
        job.cancel()
