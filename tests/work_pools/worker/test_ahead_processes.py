"""Processes that are started ahead: who they serve, and that they are as any other."""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.workers.process import ProcessJobConfiguration

from tests.support.platform import Platform, platform_up, wait_until
from tests.support.processes import frozen, processes_of, worker
from work_pools.ahead import NOBODY
from work_pools.engine import AHEAD
from work_pools.worker.waiting_processes import WaitingProcesses

# More than asyncio has threads for what blocks: each job takes one of somebody's until it ends.
_SLOTS = min(32, (os.cpu_count() or 1) + 4) + 2
_LONG = {"upper_bound": 10**10}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture of its own: what waits there waits for these tests alone."""
    home = tmp_path_factory.mktemp("ahead")
    with platform_up(home, "process", slots=_SLOTS) as platform:
        yield platform


def one_waits(platform: Platform) -> psutil.Process:
    """The process that waits, at rest."""

    def look() -> psutil.Process | None:
        found = processes_of(platform, NOBODY)
        return found[0] if found and found[0].status() == psutil.STATUS_SLEEPING else None

    return wait_until(look, what="a process waits")


def hand_in(platform: Platform, directory: str) -> tuple[UUID, psutil.Process]:
    """A job that goes on until it is cancelled, and its process."""
    job = platform.hand_in("find-primes/high", _LONG, directory)
    (process,) = wait_until(lambda: processes_of(platform, job), what="its process")
    return job, process


def cancel(platform: Platform, *jobs: UUID) -> None:
    for job in jobs:
        body = {"state": {"type": "CANCELLING"}}
        platform.rest("POST", f"/flow_runs/{job}/set_state", body)
    for job in jobs:
        assert platform.ended(job)["state_type"] == "CANCELLED"
        wait_until(lambda job=job: not processes_of(platform, job), what="its process is gone")


def test_a_job_is_served_by_the_one_that_waits_and_another_takes_its_place(
    platform: Platform,
) -> None:
    there = one_waits(platform)
    job, process = hand_in(platform, "waited")
    assert process.pid == there.pid
    wait_until(lambda: platform.run(job)["state_type"] == "RUNNING", what="it runs")
    assert platform.run(job)["infrastructure_pid"] == str(process.pid)
    assert one_waits(platform).pid != there.pid
    cancel(platform, job)


@pytest.mark.thorough
def test_as_many_run_at_once_as_there_are_slots(platform: Platform) -> None:
    with contextlib.ExitStack() as standing:
        jobs: list[UUID] = []
        for number in range(_SLOTS):
            there = one_waits(platform)
            job, process = hand_in(platform, f"slots-{number}")
            assert process.pid == there.pid
            standing.enter_context(frozen(process))  # it leaves the host to the next
            jobs.append(job)
    cancel(platform, *jobs)


def hand_in_cold(platform: Platform, directory: str) -> tuple[UUID, psutil.Process]:
    """A job that finds the one that waited dead, and no other in its place yet."""
    for _ in range(5):
        one_waits(platform).kill()
        job, process = hand_in(platform, directory)
        if AHEAD not in process.cmdline():
            return job, process
        cancel(platform, job)
    raise AssertionError("none starts cold")


def own_environment(process: psutil.Process) -> dict[str, str]:
    """Without what is of its run, or of how Prefect's worker speaks to it."""
    found = process.environ()
    return {name: value for name, value in found.items() if not name.startswith("PREFECT__")}


@pytest.mark.thorough
def test_a_job_starts_cold_where_the_one_that_waited_has_died_and_is_as_any_other(
    platform: Platform,
) -> None:
    one_waits(platform)
    first, ahead = hand_in(platform, "ahead")
    assert AHEAD in ahead.cmdline()
    second, cold = hand_in_cold(platform, "died")
    for job in (first, second):
        wait_until(lambda job=job: platform.run(job)["state_type"] == "RUNNING", what="it runs")
        assert platform.run(job)["run_count"] == 1
    own = worker(platform).nice()
    for process in (ahead, cold):
        assert {os.getpriority(os.PRIO_PROCESS, one.id) for one in process.threads()} == {own}
        assert os.getpgid(process.pid) == process.pid  # Ctrl-C at a worker is not for its jobs
    assert ahead.cwd() == cold.cwd()
    assert own_environment(ahead) == own_environment(cold)
    cancel(platform, first, second)


def test_a_job_whose_process_cannot_be_started_is_left_to_prefect() -> None:
    # Which says what is wrong with it.
    command = "/nowhere/python -m work_pools.engine"
    configuration = ProcessJobConfiguration(command=command, env={})
    assert WaitingProcesses(1).take(configuration, uuid4()) is None


def test_what_waits_ends_with_its_worker(platform: Platform) -> None:
    there = one_waits(platform)
    process = worker(platform)
    process.kill()
    wait_until(lambda: not there.is_running(), what="it ends")
    assert one_waits(platform).pid != there.pid


def test_what_has_imported_code_that_has_changed_since_serves_no_job(
    platform: Platform, request: pytest.FixtureRequest
) -> None:
    there = one_waits(platform)
    path = Path(__file__).parents[3] / "work_pools" / "serving.py"
    stat = path.stat()
    request.addfinalizer(lambda: os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns)))
    os.utime(path)
    job, process = hand_in(platform, "changed")
    assert process.pid != there.pid
    cancel(platform, job)
