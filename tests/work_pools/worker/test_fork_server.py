"""The fork server of a worker: whom it forks for, and that a fork is as any other job."""

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
from work_pools.entrypoint.run import FORK_SERVER
from work_pools.standby import NO_RUN
from work_pools.worker.processes.fork_servers import ForkServers

# More than asyncio has threads for what blocks: each job takes one of somebody's until it ends.
_SLOTS = min(32, (os.cpu_count() or 1) + 4) + 2
_LONG = {"upper_bound": 10**10}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture of its own: what waits there waits for these tests alone."""
    home = tmp_path_factory.mktemp("standby")
    with platform_up(home, "process", slots=_SLOTS) as platform:
        yield platform


def fork_server(platform: Platform) -> psutil.Process:
    """The fork server, at rest."""

    def look() -> psutil.Process | None:
        found = processes_of(platform, NO_RUN)
        return found[0] if found and found[0].status() == psutil.STATUS_SLEEPING else None

    return wait_until(look, what="a fork server waits")


def submit_job(platform: Platform, directory: str) -> tuple[UUID, psutil.Process]:
    """A job that goes on until it is cancelled, and its process."""
    job = platform.submit_job("find-primes/high", _LONG, directory)
    (process,) = wait_until(lambda: processes_of(platform, job), what="its process")
    return job, process


def cancel(platform: Platform, *jobs: UUID) -> None:
    for job in jobs:
        body = {"state": {"type": "CANCELLING"}}
        answer = platform.rest("POST", f"/flow_runs/{job}/set_state", body)
        assert answer.json()["status"] == "ACCEPT"
    for job in jobs:
        ended = platform.ended(job)
        assert ended["state_type"] == "CANCELLED", ended["state"]["message"]
        wait_until(lambda job=job: not processes_of(platform, job), what="its process is gone")


def test_jobs_are_forked_by_one_server(platform: Platform) -> None:
    there = fork_server(platform)
    job, process = submit_job(platform, "waited")
    assert process.ppid() == there.pid
    wait_until(lambda: platform.run(job)["state_type"] == "RUNNING", what="it runs")
    assert platform.run(job)["infrastructure_pid"] == str(process.pid)
    other, beside = submit_job(platform, "beside")
    assert beside.ppid() == there.pid
    cancel(platform, job, other)
    assert fork_server(platform).pid == there.pid


@pytest.mark.thorough
def test_as_many_run_at_once_as_there_are_slots(platform: Platform) -> None:
    with contextlib.ExitStack() as standing:
        jobs: list[UUID] = []
        for number in range(_SLOTS):
            there = fork_server(platform)
            job, process = submit_job(platform, f"slots-{number}")
            assert process.ppid() == there.pid
            standing.enter_context(frozen(process))  # it leaves the host to the next
            jobs.append(job)
    cancel(platform, *jobs)


def submit_cold(platform: Platform, directory: str) -> tuple[UUID, psutil.Process]:
    """A job that finds the server dead, and no other in its place yet."""
    for _ in range(5):
        fork_server(platform).kill()
        job, process = submit_job(platform, directory)
        if FORK_SERVER not in process.cmdline():
            return job, process
        cancel(platform, job)
    raise AssertionError("none starts cold")


def own_environment(process: psutil.Process) -> dict[str, str]:
    """Without what is of its run."""
    found = process.environ()
    return {
        name: value
        for name, value in found.items()
        if not name.startswith(("PREFECT__", "PREFECTURE__NETWORK"))
        and name not in ("TMPDIR", "PREFECT_API_AUTH_STRING")
    }


@pytest.mark.thorough
def test_a_job_starts_cold_where_the_server_has_died_and_is_as_any_other(
    platform: Platform,
) -> None:
    fork_server(platform)
    first, standby = submit_job(platform, "standby")
    assert FORK_SERVER in standby.cmdline()
    second, cold = submit_cold(platform, "died")
    for job in (first, second):
        wait_until(lambda job=job: platform.run(job)["state_type"] == "RUNNING", what="it runs")
        assert platform.run(job)["run_count"] == 1
    own = worker(platform).nice()
    for process in (standby, cold):
        assert {os.getpriority(os.PRIO_PROCESS, one.id) for one in process.threads()} == {own}
        assert os.getpgid(process.pid) == process.pid  # Ctrl-C at a worker is not for its jobs
    assert standby.cwd() == cold.cwd()
    assert own_environment(standby) == own_environment(cold)
    cancel(platform, first, second)


def test_a_job_whose_process_cannot_be_started_is_left_to_prefect() -> None:
    # Which says what is wrong with it.
    command = "/nowhere/python -m work_pools.entrypoint.run"
    configuration = ProcessJobConfiguration(command=command, env={})
    assert ForkServers(1).take(configuration, uuid4()) is None


def test_the_server_ends_with_its_worker(platform: Platform) -> None:
    there = fork_server(platform)
    process = worker(platform)
    process.kill()
    wait_until(lambda: not there.is_running(), what="it ends")
    assert fork_server(platform).pid != there.pid


def test_a_server_that_has_imported_code_that_has_changed_since_forks_no_more(
    platform: Platform,
) -> None:
    there = fork_server(platform)
    path = Path(__file__).parents[3] / "work_pools" / "entrypoint" / "flow_engine.py"
    stat = path.stat()
    try:
        os.utime(path)
        job, process = submit_job(platform, "changed")
        assert process.ppid() != there.pid
        cancel(platform, job)
        wait_until(lambda: not there.is_running(), what="it ends")
        changed = fork_server(platform)
    finally:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    wait_until(lambda: not changed.is_running(), what="its successor ends as well")
