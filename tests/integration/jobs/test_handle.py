"""Jobs from Python, by someone who knows nothing of Prefect."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pyarrow.parquet as pq
import pytest

from deployments import Job, find_job, submit
from tasks.errors import (
    InvalidPayload,
    JobCancelledError,
    JobFailedError,
    JobNotEnded,
    KeyTaken,
    PrefectureError,
    ServerUnavailable,
)
from tests.support.platform import Platform, free_port, pause, wait_until
from tests.support.processes import processes_of

SMALL, ENDLESS = {"upper_bound": 100}, {"upper_bound": 10**10}


def body_of(platform: Platform, run: UUID) -> psutil.Process:
    """The process of an attempt."""
    return wait_until(lambda: processes_of(platform, run), what=f"attempt {run} runs")[0]


def test_a_job_from_its_payload_to_its_files(here: Platform, tmp_path: Path) -> None:
    job = submit("find-primes", SMALL, "handle", queue="high", tags=["user:anna"], name="mine")
    assert job.wait(240) is job
    assert job.status == "Completed"
    progress = job.progress()
    assert (progress.fraction, progress.attempt, progress.outcome) == (1.0, 1, "completed")
    result = job.results(str(tmp_path / "copy"))
    assert [file.path for file in result.manifest.files] == ["primes.parquet"]
    assert pq.ParquetFile(tmp_path / "copy" / "primes.parquet").metadata.num_rows == 25
    assert job.results().location == str(here.results / "handle" / str(job.id))
    run = here.run(job.id)
    assert (run["name"], "user:anna" in run["tags"]) == ("mine", True)


def test_a_job_is_followed_across_its_crash(here: Platform) -> None:
    job = submit("find-primes", {"upper_bound": 10**9}, "handle", queue="high")
    body_of(here, job.id).kill()
    assert job.wait(240).progress().attempt == 2
    assert job.results().manifest.attempt == 2
    (second,) = [
        run["id"]
        for run in here.rest("POST", "/flow_runs/filter", {"sort": "START_TIME_DESC"}).json()
        if run["labels"].get("prefecture.job_id") == str(job.id)
    ]
    assert find_job(second) == job


@pytest.mark.thorough
def test_progress_moves_until_the_job_is_cancelled(here: Platform) -> None:
    job = find_job(submit("find-primes", ENDLESS, "handle", queue="high").id)
    with pytest.raises(TimeoutError, match=f"job {job.id} has not ended within 0.5 s: it goes on"):
        job.wait(0.5)
    seen: list[float] = []

    def moves() -> bool:
        progress = job.progress()
        seen.append(progress.fraction)
        assert progress.outcome is None
        return len({fraction for fraction in seen if fraction}) > 1

    wait_until(moves, what="the progress moves")
    assert seen == sorted(seen)
    assert job.progress().text == "primes up to 10,000,000,000"
    job.cancel()
    with pytest.raises(JobCancelledError, match=f"^job {job.id} is Cancelled: "):
        job.wait()
    assert job.wait(check=False).status == "Cancelled"
    with pytest.raises(PrefectureError, match="has no result"):
        job.results()


def test_a_job_that_fails_says_why(here: Platform) -> None:
    payload = {"source": "nothing-here", "ratio": 0.5}
    job = submit("compress-images", payload, "handle", queue="high")
    with pytest.raises(
        JobFailedError, match=rf"^job {job.id} has failed: .*nothing-here"
    ) as failed:
        job.wait(240)
    assert "\n" not in str(failed.value)
    assert job.wait(check=False).progress().outcome == "failed"


def test_a_job_that_waits_knows_its_place(here: Platform) -> None:
    with pause(here):
        jobs = [submit("find-primes", SMALL, "handle", queue="low") for _ in range(3)]
        urgent = submit("find-primes", SMALL, "handle", queue="high")
        assert [job.progress().ahead for job in jobs] == [1, 2, 3]
        assert urgent.progress().ahead == 0
        for job in [*jobs, urgent]:
            job.cancel()


def test_the_same_key_is_the_same_job(here: Platform) -> None:
    key = f"holiday {uuid4()}"
    with pause(here):

        def again(_: int = 0) -> Job:
            return submit("find-primes", SMALL, "handle", queue="low", tags=["b", "a"], key=key)

        with ThreadPoolExecutor(4) as pool:
            first, *others = pool.map(again, range(4))
        assert others == [first] * 3
        first.cancel()
        assert again() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"payload": {"upper_bound": 101}}, "payload.upper_bound is 100 and not 101"),
        ({"results_directory": "other"}, 'results_directory is "handle" and not "other"'),
        ({"queue": "high"}, 'queue is "low" and not "high"'),
        ({"tags": ["a"]}, r"tags is \[\] and not \[\"a\"\]"),
        ({"max_duration": 5}, "max_duration is not set and not 5"),
    ],
)
def test_the_same_key_with_something_else(
    here: Platform, change: dict[str, Any], said: str
) -> None:
    asked: dict[str, Any] = {
        "task": "find-primes",
        "payload": SMALL,
        "results_directory": "handle",
        "queue": "low",
        "key": str(uuid4()),
    }
    with pause(here):
        job = submit(**asked)
        with pytest.raises(KeyTaken, match=rf"names job {job.id} already, whose {said}: choose"):
            submit(**asked | change)
        job.cancel()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("find-primes", {"upper_bound": 1}, "x"), "payload.upper_bound.*less than the minimum"),
        (("find-primes", {"upper_bound": {1}}, "x"), "the payload is not JSON"),
        (("find-primes", SMALL, "../x"), "'../x' is not a results directory"),
        (("find-prime", SMALL, "x"), "there is no compute task 'find-prime'"),
    ],
)
def test_what_is_refused(here: Platform, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(InvalidPayload, match=said):
        submit(*arguments)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"queue": "hihg"}, "there is no queue 'hihg'"),
        ({"tags": "one"}, r"give a list, \['one'\]"),
        ({"key": " "}, "key: "),
        ({"memory": "1g"}, "jobs run as plain processes here"),
    ],
)
def test_what_is_refused_beside_the_payload(
    here: Platform, more: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidPayload, match=said):
        submit("find-primes", SMALL, "handle", **more)


def test_a_job_that_is_none(here: Platform) -> None:
    unknown = uuid4()
    for ask in (lambda: find_job(unknown), lambda: Job(unknown).wait(), Job(unknown).progress):
        with pytest.raises(InvalidPayload, match=f"no job {unknown} is known here"):
            ask()
    with pytest.raises(InvalidPayload, match="'holiday' is not a job id"):
        find_job("holiday")


async def test_in_threads_and_where_an_event_loop_runs_as_in_a_notebook(here: Platform) -> None:
    def one() -> str:
        job = submit("find-primes", SMALL, "handle", queue="low")
        job.cancel()
        return job.wait(240, check=False).status

    with pause(here):  # the threads and the loop are what this is about: no job need run
        waiting = [asyncio.create_task(asyncio.to_thread(one)) for _ in range(2)]
        await asyncio.sleep(0)  # both begin
        assert one() == "Cancelled"
        assert await asyncio.gather(*waiting) == ["Cancelled"] * 2


@pytest.mark.parametrize("ask", [lambda: submit("find-primes", SMALL, "x"), Job(uuid4()).wait])
def test_no_server_is_started_where_none_answers(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]
) -> None:
    address = f"http://127.0.0.1:{free_port()}/api"
    monkeypatch.setenv("PREFECT_API_URL", address)
    with pytest.raises(ServerUnavailable, match=f"^no Prefect server answers at {address}: start"):
        ask()


def test_not_ended_is_a_timeout() -> None:
    assert issubclass(JobNotEnded, TimeoutError)
