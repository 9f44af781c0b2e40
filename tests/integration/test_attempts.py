"""Later attempts at a job, made as the supervisor makes them: by labels, over REST."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.platform import Platform, wait_until
from tests.support.session.tiers import thorough

# Hours of work, were it done: an attempt that ends in time has not done it.
HUGE = {"upper_bound": 10**10}
SMALL = {"upper_bound": 100}


def attempt_again(
    platform: Platform, job: UUID, payload: dict[str, Any], directory: str
) -> tuple[UUID, dict[str, Any]]:
    """A second attempt at `job`, once it has ended."""
    response = platform.create(
        "find-primes/high",
        parameters={"payload": payload, "results_directory": directory},
        labels={"prefecture.job_id": str(job), "prefecture.attempt": 2},
    )
    assert response.status_code == 201, response.text
    run = UUID(response.json()["id"])
    return run, platform.ended(run)


def receipt(platform: Platform, run: UUID) -> str:
    """What Prefect keeps of a flow run's return value."""
    state = platform.run(run)["state"]
    key = state["data"]["storage_key"]
    return (platform.results / ".prefect" / Path(key).name).read_text()


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_a_result_that_stands_is_not_made_again(process_platform: Platform) -> None:
    platform = process_platform
    job = platform.submit_job("find-primes/high", SMALL, "stands")
    before = contents(platform.completed(job, "stands").parent)

    again, run = attempt_again(platform, job, HUGE, "stands")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert receipt(platform, again) == receipt(platform, job)
    assert platform.manifest(job, "stands")["attempt"] == 1
    assert contents(platform.results / "stands") == before
    assert not list((platform.results / ".staging").glob(f"{job}.*"))
    (listed,) = platform.artifacts(again, "markdown")
    assert "`primes.parquet`" in listed["data"]
    assert platform.artifacts(again, "progress") == [], "no work was begun"


def test_a_later_attempt_says_why_and_links_to_the_first_and_back(
    process_platform: Platform,
) -> None:
    platform = process_platform
    response = platform.create(
        "find-primes/low",
        parameters={"payload": SMALL, "results_directory": "linked"},
        tags=["user:anna"],
        state={"type": "SCHEDULED", "state_details": {"scheduled_time": "2100-01-01T00:00:00Z"}},
    )
    job = UUID(response.json()["id"])
    crash = {"state": {"type": "CRASHED", "message": "pulled the plug"}, "force": True}
    platform.rest("POST", f"/flow_runs/{job}/set_state", crash).raise_for_status()
    key = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{job}:2"]}}}

    def later() -> list[dict[str, Any]]:
        return platform.rest("POST", "/flow_runs/filter", key).json()

    (second,) = wait_until(later, what="a second attempt")
    own = {*second["tags"]} - {"compute", "numbers"}  # its deployment's
    assert own == {"user:anna", "attempt 2 of 5, after: crashed: pulled the plug"}
    (to,) = wait_until(lambda: platform.artifacts(job, "markdown"), what="a link to it")
    assert to["data"] == (
        "Attempt 1 of 5 crashed: `crashed: pulled the plug`. The next attempt: "
        f"[attempt 2](/runs/flow-run/{second['id']})."
    )

    def back() -> list[str]:
        shown = platform.artifacts(UUID(second["id"]), "markdown")
        return [one["data"] for one in shown if f"[attempt 1](/runs/flow-run/{job})" in one["data"]]

    wait_until(back, what="a link back")


def test_a_job_without_a_result_is_done_again(process_platform: Platform) -> None:
    platform = process_platform
    job = platform.submit_job("find-primes/high", SMALL, "here")
    platform.completed(job, "here")
    # Another directory is another place: there the result does not stand.
    _, run = attempt_again(platform, job, SMALL, "there")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert platform.results.joinpath("there", str(job), "primes.parquet").is_file()


@pytest.mark.parametrize("damage", ["{", thorough(""), thorough('{"version": 1}')])
def test_a_damaged_manifest_is_reported_and_not_taken_for_a_result(
    process_platform: Platform, damage: str
) -> None:
    platform = process_platform
    job = platform.submit_job("find-primes/high", SMALL, "damaged")
    folder = platform.completed(job, "damaged")
    (folder / "manifest.json").write_text(damage)
    before = contents(folder)
    _, run = attempt_again(platform, job, HUGE, "damaged")
    assert run["state_name"] == "Failed"
    assert run["state"]["message"] == (
        f"{folder}/manifest.json cannot be read: do not use this result, run the job again"
    )
    assert contents(folder) == before
