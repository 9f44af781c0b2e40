"""Jobs of average-files that several runs share: one of them hangs, or dies, or has the job."""

import json
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from docker.errors import APIError

from tests.chaos.harness.choice import long, on
from tests.support.containers import containers_of, engine, kill_container
from tests.support.platform import FINAL, Platform, wait_until
from tests.support.processes import frozen, processes

# Files that take about a second each, from numbers to text and back: time for a helper to start.
FILES: dict[str, Any] = {"files": 20, "numbers": 2_000_000, "seed": 3, "format": "csv"}
TRIES = 5  # to stop one in the middle of its part
SHARED: dict[str, Any] = {"generate": FILES, "workers": 2, "partition": 1}


def helping(platform: Platform, **state: Any) -> list[dict[str, Any]]:
    """The runs of sum-files in these states."""
    body = {"flows": {"name": {"any_": ["sum-files"]}}, "flow_runs": {"state": state}}
    return platform.rest("POST", "/flow_runs/filter", body).json()


def a_helper(platform: Platform) -> str:
    """The id of one that is at work."""
    found = wait_until(lambda: helping(platform, type={"any_": ["RUNNING"]}), what="a helper")
    return str(found[0]["id"])


def kill(platform: Platform, run: str) -> None:
    """What the host does to a run when memory is short."""
    if platform.pool == "docker":
        kill_container(platform, run)
    else:
        _process(platform, run).kill()


def killed_a_helper(platform: Platform) -> bool:
    """Kill one that is at work. Returns False where it has just ended by itself."""
    with suppress(APIError, ValueError, psutil.NoSuchProcess):  # its container, or its process
        kill(platform, a_helper(platform))
        return True
    return False


@contextmanager
def standing_still(platform: Platform, run: str) -> Generator[None]:
    """While the block runs, a run does nothing, and has not died."""
    if platform.pool == "process":
        with frozen(_process(platform, run)):
            yield
        return
    with engine(platform) as client:
        (there,) = containers_of(platform, run)
        found = client.containers.get(there.id)
        wait_until(lambda: _paused(found), what="a container stands still")
        try:
            yield
        finally:
            with suppress(APIError):  # its job may have ended it, and it is removed
                found.unpause()


def _paused(container: Any) -> bool:
    """Pause a container. Returns False where the machine is too busy: runc then gives up early."""
    try:
        container.pause()
    except APIError as error:
        if "unable to freeze" not in str(error):
            raise
        return False
    return True


def _process(platform: Platform, run: str) -> Any:
    (found,) = [
        process
        for process, words, environment in processes(platform)
        if environment.get("PREFECT__FLOW_RUN_ID") == run and "work_pools.entrypoint.run" in words
    ]
    return found


def alone(platform: Platform) -> bytes:
    """The means, made by one run."""
    job = platform.submit_job("average-files/high", {"generate": FILES}, "alone")
    return means(platform.completed(job, "alone"))


def means(folder: Path) -> bytes:
    """What a result says."""
    return (folder / "means.parquet").read_bytes()


def nobody_is_left(platform: Platform) -> None:
    """Every run that has helped has ended."""
    wait_until(
        lambda: all(run["state_type"] in FINAL for run in helping(platform)), what="no helper left"
    )


@pytest.fixture
def job(trials: Platform) -> UUID:
    """One that has a helper at work."""
    return trials.submit_job("average-files/high", SHARED, "shared")


@pytest.mark.thorough
@on("docker", long("process"))
def test_one_hangs(trials: Platform) -> None:
    """Its part is done a second time, counts once, and the job does not wait for it."""
    copied = 0
    # One that has just done its part when it is stopped holds nobody up: then another job's.
    for _ in range(TRIES):
        job = trials.submit_job("average-files/high", SHARED, "shared")
        with standing_still(trials, a_helper(trials)):
            result = trials.completed(job, "shared")
            copied = trials.manifest(job, "shared")["summary"]["copied"]
        nobody_is_left(trials)
        assert means(result) == alone(trials)
        if copied:
            break
    # On a busy machine one that is slow is taken for one that hangs; no more than a tenth of all.
    assert 1 <= copied <= FILES["files"] / 10


@pytest.mark.thorough
@on("docker", long("process"))
def test_one_is_killed(trials: Platform, job: UUID) -> None:
    """Another does its part; the job notices nothing."""
    wait_until(lambda: killed_a_helper(trials), what="one that is at work is killed")
    result = trials.completed(job, "shared")
    assert trials.manifest(job, "shared")["attempt"] == 1
    assert [bar["data"] for bar in trials.artifacts(job, "progress")] == [100.0]
    nobody_is_left(trials)
    assert means(result) == alone(trials)


@pytest.mark.thorough
@on("process", long("docker"))
def test_the_one_that_has_the_job_is_killed(trials: Platform, job: UUID) -> None:
    """The next attempt begins anew; who helped the first finds that nothing is wanted."""
    a_helper(trials)
    kill(trials, str(job))
    folder = trials.results / "shared" / str(job)
    wait_until((folder / "manifest.json").exists, what="the result")
    assert json.loads((folder / "manifest.json").read_text())["attempt"] == 2
    nobody_is_left(trials)
    assert {run["state_type"] for run in helping(trials)} <= {"COMPLETED", "CANCELLED", "CRASHED"}
    assert means(folder) == alone(trials)
