"""`prefecture up` stopped in every way, with a job running: nothing is left behind or lost."""

import asyncio
import signal
from pathlib import Path

import psutil
import pytest
from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.interrupted import put_back
from tasks.storage.results.local import LocalRoot
from tests.chaos.harness.stopping import goes_on, leaves_nothing, processes_of, survives, work
from tests.support.other_hosts import held_run
from tests.support.platform import Platform, pause, platform_up, wait_until
from tests.support.processes import frozen, supervisor
from tests.support.session.tiers import thorough


def test_killed_with_a_job_running(home: Path) -> None:
    """By SIGTERM: below. The other two ways: tests/chaos/hosts/test_up_stopped.py."""
    survives(home, "docker", signal.SIGKILL)


@pytest.mark.thorough
def test_put_back_page_by_page(process_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.hosts.PAGE", 2)

    async def settle(worker: str) -> int:
        with temporary_settings({PREFECT_API_URL: process_platform.api}):
            async with get_client() as client:
                return await put_back(client, worker, LocalRoot(process_platform.results))

    # Its supervisor would find them lost, if this took long.
    with pause(process_platform), frozen(supervisor(process_platform)):
        ours = [held_run(process_platform, "prefecture-gone-1", "paged") for _ in range(7)]
        others = held_run(process_platform, "prefecture-gone-2", "paged")
        assert asyncio.run(settle("prefecture-gone-1")) == len(ours)
        assert {process_platform.run(job)["state_type"] for job in ours} == {"SCHEDULED"}
        assert process_platform.run(others)["state_type"] == "RUNNING"
        assert asyncio.run(settle("prefecture-gone-2")) == 1
    for job in (*ours, others):
        process_platform.completed(job, "paged")


@pytest.mark.thorough
def test_stopped_with_a_job_running(home: Path) -> None:
    """The supervisor stays up, and goes first; and no job has seen a secret of the host."""
    secrets = {"AWS_SECRET_ACCESS_KEY": "hush", "PREFECT_SERVER_DATABASE_PASSWORD": "hush"}
    with platform_up(home, "process", settings=secrets) as platform:
        first = supervisor(platform)
        assert not secrets.keys() & first.environ().keys()
        first.kill()
        second = wait_until(
            lambda: (found := supervisor(platform)) != first and found, what="it is there again"
        )
        log = home / "logs" / "supervisor.log"
        assert f"the supervisor ended with -9 (see {log}); restarting it" in platform.output
        left = work(platform)
        environments = jobs_environments(home)
        assert environments
        for environment in environments:
            assert "hush" not in environment.values()
            assert not secrets.keys() & environment.keys()
        leaves_nothing(platform, signal.SIGTERM)
        assert not (home / "api_url").exists()
        assert not second.is_running()
        assert str(left.job) not in log.read_text(), "it saw its jobs end"
    with platform_up(home, "process") as platform:
        runs = [run["id"] for run in platform.rest("POST", "/flow_runs/filter", {}).json()]
        _, planned = left.of_the_user
        assert sorted(runs) == sorted([str(left.job), *planned])
        goes_on(platform, left)


def jobs_environments(home: Path) -> list[dict[str, str]]:
    """Of each job's process."""
    return [
        process.environ()
        for process in psutil.process_iter(["cmdline"])
        if "work_pools.entrypoint.run" in (process.info["cmdline"] or [])
        and str(home) in process.environ().get("PREFECTURE_RESULTS_ROOT", "")
    ]


@pytest.mark.thorough
def test_stopped_while_it_starts(home: Path) -> None:
    with platform_up(home, "process", ready="server") as platform:
        assert platform.stop(signal.SIGINT) == 0
        assert processes_of(home) == []


@pytest.mark.thorough
def test_two_with_one_home_or_one_port(process_platform: Platform, tmp_path: Path) -> None:
    second = process_platform.command("prefecture", "up", "--pool", "process")
    assert (second.returncode, second.stderr.count("\n")) == (1, 1)
    assert "prefecture is up already with the home" in second.stderr
    process_platform.environment["PREFECTURE_HOME"] = str(tmp_path / "other")
    try:
        third = process_platform.command(
            "prefecture", "up", "--pool", "process", "--port", str(process_platform.port)
        )
    finally:
        process_platform.environment["PREFECTURE_HOME"] = str(process_platform.home)
    assert (third.returncode, third.stderr.count("\n")) == (1, 1)
    assert "is in use" in third.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREFECTURE_CPUS", "0", "setting PREFECTURE_CPUS: "),
        thorough("PREFECTURE_SCRATCH", "/", "setting PREFECTURE_SCRATCH: "),
        thorough("PREFECTURE_CONTAINER_USER", "0:0", "setting PREFECTURE_CONTAINER_USER: "),
        ("DOCKER_HOST", "unix:///nowhere.sock", "no Docker engine answers"),
    ],
)
def test_bad_settings(
    process_platform: Platform, tmp_path: Path, name: str, value: str, message: str
) -> None:
    environment = process_platform.environment | {"PREFECTURE_HOME": str(tmp_path), name: value}
    other = Platform("docker", tmp_path, 1, process_platform.process, environment)
    done = other.command("prefecture", "up", "--pool", "docker")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert message in done.stderr
