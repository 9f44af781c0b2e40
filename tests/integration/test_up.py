"""`prefecture up` stopped in every way, with a job running: nothing is left behind or lost."""

import signal
from pathlib import Path
from uuid import UUID

import docker
import psutil
import pytest

from tests.support.platform import Platform, platform_up, wait_until

LONG = {"upper_bound": 10**10}  # seconds of work: enough to be stopped in the middle
FOUND = 455_052_511  # primes up to there, OEIS A006880


def processes_of(home: Path) -> list[str]:
    """Every process whose environment or command names the home."""
    found: list[str] = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(home) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


def containers_of(home: Path) -> list[str]:
    """Every container, running or not, that mounts the home's results."""
    client = docker.from_env()
    try:
        return [
            str(container.id)
            for container in client.containers.list(all=True)
            if any(str(home) in str(mount) for mount in container.attrs["Mounts"])
        ]
    finally:
        client.close()


def start_a_long_job(platform: Platform) -> UUID:
    job = platform.hand_in("find-primes/normal", LONG, "long")
    staging = platform.results / ".staging"
    wait_until(lambda: any(staging.glob("*/files/primes.parquet")), 60, "the job is at work")
    return job


@pytest.mark.parametrize(
    ("pool", "stop"),
    [
        ("docker", signal.SIGINT),
        ("docker", signal.SIGKILL),
        ("process", signal.SIGTERM),
        ("process", signal.SIGKILL),
    ],
    ids=str,
)
def test_stopped_with_a_job_running(home: Path, pool: str, stop: signal.Signals) -> None:
    with platform_up(home, pool) as platform:
        job = start_a_long_job(platform)
        code = platform.stop(stop)
        assert code == (-stop if stop is signal.SIGKILL else 0), platform.output
        if stop is signal.SIGKILL:
            # It cannot end its containers, nor a server that one of them is connected to: the
            # next `up` does.
            if pool == "process":
                wait_until(lambda: not processes_of(home), 30, "no process left")
        else:
            assert processes_of(home) == []
            assert pool == "process" or containers_of(home) == []
            assert not list((platform.results / ".staging").glob("*"))
        assert not (platform.results / "long").exists()

    with platform_up(home, pool) as platform:
        folder = platform.completed(job, "long")
        assert platform.manifest(job, "long")["summary"]["count"] == FOUND
        assert [path.name for path in folder.parent.iterdir()] == [str(job)]
        assert not list((platform.results / ".staging").glob("*"))
        platform.stop()
        assert pool == "process" or containers_of(home) == []
        assert processes_of(home) == []


def test_stopped_while_it_starts(home: Path) -> None:
    with platform_up(home, "process", ready="server") as platform:
        assert platform.stop(signal.SIGINT) == 0
        assert processes_of(home) == []


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
        ("PREFECTURE_RESULTS_ROOT", "/", "setting PREFECTURE_RESULTS_ROOT: "),
        ("PREFECTURE_CONTAINER_USER", "0:0", "setting PREFECTURE_CONTAINER_USER: "),
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


def test_the_job_sees_no_secret_of_the_host(home: Path) -> None:
    secrets = {"AWS_SECRET_ACCESS_KEY": "hush", "PREFECT_SERVER_DATABASE_PASSWORD": "hush"}
    with platform_up(home, "process", settings=secrets) as platform:
        start_a_long_job(platform)
        jobs = [
            process.environ()
            for process in psutil.process_iter(["cmdline"])
            if "work_pools.engine" in (process.info["cmdline"] or [])
            and str(home) in process.environ().get("PREFECTURE_RESULTS_ROOT", "")
        ]
        assert jobs
        for environment in jobs:
            assert "hush" not in environment.values()
            assert not secrets.keys() & environment.keys()
