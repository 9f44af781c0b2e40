"""`prefecture cancel`, at every stage a job can be in: nothing runs after it, nothing is left."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.jobs.cancel import cancel
from tasks.contracts import ATTEMPT_LABEL, JOB_ID_LABEL, requeue_key
from tasks.errors import PrefectureError
from tests.support.containers import containers_of
from tests.support.platform import Platform, pause, wait_until
from tests.support.processes import processes_of
from tests.support.session.tiers import thorough

SHORT, LONG = {"upper_bound": 10}, {"upper_bound": 10**10}


def cancelled(platform: Platform, job: UUID | str, *words: str) -> str:
    """What the command prints, which succeeds."""
    done = platform.command("prefecture", "cancel", str(job), *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def refused(platform: Platform, job: UUID | str) -> str:
    """The one line with which the command fails."""
    done = platform.command("prefecture", "cancel", str(job))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr.removeprefix("prefecture: ").strip()


def set_state(platform: Platform, run: UUID | str, type: str) -> None:
    body = {"state": {"type": type}, "force": True}
    platform.rest("POST", f"/flow_runs/{run}/set_state", body).raise_for_status()


def state(platform: Platform, run: UUID | str) -> str:
    return platform.run(UUID(str(run)))["state_name"]


def states(platform: Platform, job: UUID) -> list[str]:
    """Every state that an attempt was in, in order."""
    found = platform.rest("GET", f"/flow_run_states/?flow_run_id={job}").json()
    return [one["type"] for one in sorted(found, key=lambda one: one["timestamp"])]


def successor(platform: Platform, job: UUID) -> str:
    """The second attempt at a job, made with its key: by a supervisor before us, or now."""
    response = platform.create(
        "find-primes/normal",
        parameters={"payload": SHORT, "results_directory": "cancel"},
        idempotency_key=requeue_key(job, 2),
        labels={JOB_ID_LABEL: str(job), ATTEMPT_LABEL: 2},
        work_queue_name="high",
    )
    response.raise_for_status()
    return response.json()["id"]


def instances(platform: Platform, job: UUID) -> list[Any]:
    """The containers or processes of a job's first attempt that are there, ended or not."""
    if platform.pool == "docker":
        return containers_of(platform, str(job))
    return processes_of(platform, job)


def stages(platform: Platform) -> list[Path]:
    return list((platform.results / ".staging").glob("*.*.*"))


def at_work(platform: Platform) -> UUID:
    """A job that has staged something."""
    job = platform.submit_job("find-primes/normal", LONG, "cancel")
    staging = platform.results / ".staging"
    wait_until(lambda: any(staging.glob(f"*{job}*/files/primes.parquet")), what="it is at work")
    return job


def test_while_it_waits(process_platform: Platform) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
        assert cancelled(process_platform, job) == f"job {job} is cancelled"
        assert state(process_platform, job) == "Cancelled"
        assert cancelled(process_platform, job) == f"job {job} is cancelled already"


@pytest.mark.thorough
def test_while_it_waits_again_after_a_restart(process_platform: Platform) -> None:
    # Put back in its queue, it still names the process that it had: Prefect would wait for its end.
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
        body = {"infrastructure_pid": "elsewhere:1"}
        process_platform.rest("PATCH", f"/flow_runs/{job}", body).raise_for_status()
        assert cancelled(process_platform, job) == f"job {job} is cancelled"
        assert state(process_platform, job) == "Cancelled"


@pytest.mark.thorough
def test_between_a_crash_and_the_next_attempt(process_platform: Platform) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
        set_state(process_platform, job, "CRASHED")
        assert cancelled(process_platform, job) == f"job {job} is cancelled"
        later = process_platform.rest(
            "POST",
            "/flow_runs/filter",
            {"flow_runs": {"idempotency_key": {"any_": [requeue_key(job, 2)]}}},
        ).json()
    # A supervisor may have been faster: then it is the second attempt that is cancelled.
    assert {run["state_name"] for run in later} <= {"Cancelled"}
    assert later or state(process_platform, job) == "Cancelled"


@pytest.mark.parametrize("named", ["job", thorough("attempt")])
def test_the_latest_attempt_is_what_is_cancelled(process_platform: Platform, named: str) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
        set_state(process_platform, job, "CRASHED")
        second = successor(process_platform, job)
        said = cancelled(process_platform, job if named == "job" else second)
        assert said == f"job {job} is cancelled"
        assert state(process_platform, second) == "Cancelled"
        result = process_platform.command("prefecture", "results", str(job))
    assert f"job {job} has no result: attempt 2 is Cancelled" in result.stderr


def test_what_has_ended_is_left_alone(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
    process_platform.completed(job, "cancel")
    line = refused(process_platform, job)
    assert line == f"job {job} is Completed already: there is nothing to cancel"
    set_state(process_platform, job, "FAILED")
    line = refused(process_platform, job)
    assert line == f"job {job} is Failed already: there is nothing to cancel"


@pytest.mark.thorough
def test_what_is_no_job(process_platform: Platform) -> None:
    assert refused(process_platform, "holiday").startswith("'holiday' is not a job id, nor ")
    unknown = uuid4()
    assert refused(process_platform, unknown).startswith(f"no job {unknown} is known here: ")


async def test_where_no_one_ends_it(process_platform: Platform) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/normal", SHORT, "cancel")
        labels = {"prefect.worker.name": "a-worker-that-no-supervisor-knows"}
        process_platform.rest("PATCH", f"/flow_runs/{job}/labels", labels).raise_for_status()
        set_state(process_platform, job, "RUNNING")
        with temporary_settings({PREFECT_API_URL: process_platform.api}):
            async with get_client() as client:
                with pytest.raises(PrefectureError, match="is still Cancelling after 1 s: is the"):
                    await cancel(client, str(job), 1.0)
        set_state(process_platform, job, "CANCELLED")


def test_while_it_runs(platform: Platform) -> None:
    job = at_work(platform)
    assert cancelled(platform, job) == f"job {job} is cancelled"
    assert states(platform, job)[-2:] == ["CANCELLING", "CANCELLED"]
    assert not [instance for instance in instances(platform, job) if platform.pool == "process"]
    assert not [instance for instance in instances(platform, job) if instance.status == "running"]
    assert not [path for path in stages(platform) if str(job) in path.name]
    assert not (platform.results / "cancel" / str(job)).exists()


@pytest.mark.thorough
def test_without_waiting(process_platform: Platform) -> None:
    job = at_work(process_platform)
    said = cancelled(process_platform, job, "--no-wait")
    assert said in (f"job {job} is being cancelled", f"job {job} is cancelled")
    process_platform.ended(job)
    assert states(process_platform, job)[-2:] == ["CANCELLING", "CANCELLED"]
    assert instances(process_platform, job) == []
