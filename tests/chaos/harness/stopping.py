"""`prefecture up` stopped with a job running, in one way or another, and started again."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import docker
import psutil

from tests.support.platform import PATIENCE, Platform, platform_up, wait_until
from tests.support.processes import frozen
from tests.support.schedules import add_schedule, planned, schedules

LONG = {"upper_bound": 2 * 10**9}  # seconds of work
PART = "*/files/primes.parquet"
FOUND = 98_222_287  # primes up to there


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
            for container in client.containers.list(all=True, ignore_removed=True)
            if any(str(home) in str(mount) for mount in container.attrs["Mounts"])
        ]
    finally:
        client.close()


def processes_with_open(path: Path) -> list[psutil.Process]:
    """The processes that have a file open, under this name or, in a container, another."""
    wanted = path.stat()
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        # Processes and descriptors go while we look; some are nobody's to read.
        with contextlib.suppress(FileNotFoundError, PermissionError, ProcessLookupError):
            held = [*Path(f"/proc/{process.pid}/fd").iterdir()]
            named = [each for each in held if each.readlink().name == path.name]
            if any(os.path.samestat(each.stat(), wanted) for each in named):
                found.append(process)
    return found


def is_to_end(process: psutil.Process) -> bool:
    """Whether SIGTERM waits for a process that is suspended, or the process is gone."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd:"))
    return bool(int(pending.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def stop_in_the_middle(platform: Platform, number: signal.Signals) -> int:
    """Stop `up` while its job writes. Returns its exit code.

    The job does nothing until it is to end too: else it could be done before, where `up` is slow.
    """
    (written,) = (platform.results / ".staging").glob(PART)
    processes = processes_with_open(written)
    assert processes
    with contextlib.ExitStack() as suspended:
        for process in processes:
            suspended.enter_context(frozen(process))
        platform.process.send_signal(number)
        wait_until(
            lambda: platform.process.poll() is not None or any(map(is_to_end, processes)),
            what="the job is to end, or `up` has ended",
        )
    return platform.process.wait(PATIENCE)


def start_a_long_job(platform: Platform) -> UUID:
    """Hand one in; it has begun to write when this returns."""
    job = platform.submit_job("find-primes/normal", LONG, "long")
    staging = platform.results / ".staging"
    wait_until(lambda: any(staging.glob(PART)), what="the job is at work")
    return job


@dataclass
class Work:
    """What is on a server when `up` is stopped."""

    job: UUID
    """One that runs, and has begun to write."""
    of_the_user: tuple[list[str], list[str]]
    """The ids of a user's schedules, and of the runs that they have planned."""


def work(platform: Platform) -> Work:
    """Put a schedule of a user's, and a long job, on a server that has none."""
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "later"}
    add_schedule(platform.api, platform.deployment("find-primes/low"), parameters=parameters)
    before = _of_the_user(platform)
    assert [len(some) for some in before] == [1, 3]
    return Work(start_a_long_job(platform), before)


def leaves_nothing(platform: Platform, stop: signal.Signals) -> None:
    """Stop it so while its job works, and assert that nothing is left behind."""
    code = stop_in_the_middle(platform, stop)
    assert code == (-stop if stop is signal.SIGKILL else 0), platform.output
    home, pool = platform.home, platform.pool
    if stop is signal.SIGKILL:
        # It cannot end its jobs, which wait for the server to come back, nor a server that one
        # of their containers is connected to: the next `up` does.
        if pool == "process":
            wait_until(
                lambda: not [p for p in processes_of(home) if "work_pools.entrypoint.run" not in p],
                what="no process left but the job's",
            )
    else:
        assert processes_of(home) == []
        assert pool == "process" or containers_of(home) == []
        assert not list((platform.results / ".staging").glob("*.*.*"))
    assert not (platform.results / "long").exists()


def goes_on(platform: Platform, work: Work) -> None:
    """Assert that the next `up` has the job done, and leaves alone what is the user's."""
    assert _of_the_user(platform) == work.of_the_user
    folder = platform.completed(work.job, "long")
    assert platform.manifest(work.job, "long")["summary"]["count"] == FOUND
    assert [path.name for path in folder.parent.iterdir()] == [str(work.job)]
    assert not list((platform.results / ".staging").glob("*.*.*"))
    platform.stop()
    assert platform.pool == "process" or containers_of(platform.home) == []
    assert processes_of(platform.home) == []


def survives(home: Path, pool: str, stop: signal.Signals) -> None:
    """Stop it so, and assert that nothing is left behind, and the job done by the next `up`.

    That one leaves a user's schedule alone, and the runs that it has planned.
    """
    with platform_up(home, pool) as platform:
        left = work(platform)
        leaves_nothing(platform, stop)
    with platform_up(home, pool) as platform:
        goes_on(platform, left)


def _of_the_user(platform: Platform) -> tuple[list[str], list[str]]:
    deployment = platform.deployment("find-primes/low")
    found = schedules(platform.api, deployment), planned(platform.api, deployment)
    ids = [[str(each["id"]) for each in some] for some in found]
    return ids[0], ids[1]
