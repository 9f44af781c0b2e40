"""`prefecture restart` and `prefecture delete`: what is done with a job that has ended."""

import subprocess
from uuid import UUID, uuid4

import pytest

from deployments import submit
from tests.support.platform import Platform, pause


def shown(platform: Platform, *words: str) -> str:
    done = platform.command("prefecture", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line with which a command fails."""
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    return done.stderr.removeprefix("prefecture: ").strip()


@pytest.mark.thorough
def test_the_same_once_more(here: Platform) -> None:
    handle = submit(
        "find-primes",
        {"upper_bound": 50},
        "again",
        queue="high",
        tags=["user:anna"],
        name="primes of anna",
        max_duration=50,
    )
    first = here.completed(handle.id, "again") / "primes.parquet"
    other = UUID(shown(here, "restart", str(handle.id)))
    assert other != handle.id
    folder = here.completed(other, "again")
    assert (folder / "primes.parquet").read_bytes() == first.read_bytes()
    one, two = here.run(handle.id), here.run(other)
    for same in ("name", "parameters", "job_variables", "work_queue_name", "deployment_id"):
        assert one[same] == two[same], same
    assert sorted(one["tags"]) == sorted(two["tags"])
    # A third time, and it is a third job.
    assert UUID(shown(here, "restart", str(other))) not in (handle.id, other)


@pytest.mark.thorough
def test_forgotten(here: Platform) -> None:
    handle = submit("find-primes", {"upper_bound": 50}, "forgotten", queue="high")
    folder = here.completed(handle.id, "forgotten")
    said = shown(here, "delete", str(handle.id))
    assert said == f"job {handle.id} is deleted; what it has published stays"
    unknown = f"no job {handle.id} is known here: `prefecture jobs` lists them"
    assert refused(here.command("prefecture", "delete", str(handle.id))) == unknown
    assert refused(here.command("prefecture", "restart", str(handle.id))) == unknown
    assert (folder / "primes.parquet").is_file()


@pytest.mark.thorough
def test_not_before_its_end(here: Platform) -> None:
    with pause(here):
        job = submit("find-primes", {"upper_bound": 50}, "waits", queue="high").id
        state = f"job {job} is Scheduled"
        done = here.command("prefecture", "delete", str(job))
        assert refused(done) == f"{state}: cancel it first"
        done = here.command("prefecture", "restart", str(job))
        assert refused(done) == f"{state}: cancel it first, or submit the same again"
    here.completed(job, "waits")


@pytest.mark.thorough
def test_no_such_job(here: Platform) -> None:
    job = uuid4()
    for verb in ("restart", "delete"):
        assert refused(here.command("prefecture", verb, str(job))).startswith(f"no job {job}")
        assert refused(here.command("prefecture", verb, "nonsense")).startswith("'nonsense' is")
