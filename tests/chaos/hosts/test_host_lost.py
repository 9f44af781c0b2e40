"""A second host joins the pool and is lost, with all that ran on it: the others take over."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, ends_with_us, wait_until
from tests.support.processes import processes, supervisor, worker

TARGET = 30.0  # seconds from the loss of a host to the next attempt Running
OTHER = "prefecture-elsewhere-00000001"
_MARK = "PREFECTURE_WORKER"


def copy_of(process: psutil.Process, log: Path) -> subprocess.Popen[bytes]:
    """A process as this one, with the name of the other host's worker."""
    name = process.environ()[_MARK].partition("/")[0]
    environment = {key: value.replace(name, OTHER) for key, value in process.environ().items()}
    with log.open("wb") as output:
        return subprocess.Popen(
            ends_with_us(*(word.replace(name, OTHER) for word in process.cmdline())),
            cwd=process.cwd(),
            env=environment,
            stdout=output,
            stderr=output,
        )


@contextmanager
def other_host(platform: Platform, logs: Path) -> Generator[list[subprocess.Popen[bytes]]]:
    """What a second host would run: a worker with a supervisor beside it."""
    started = [
        copy_of(worker(platform), logs / "worker.log"),
        copy_of(supervisor(platform), logs / "supervisor.log"),
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(30)


def jobs_there(platform: Platform) -> list[psutil.Process]:
    """The jobs that the other host runs."""
    return [
        process
        for process, words, environment in processes(platform)
        if environment.get(_MARK) == OTHER and "work_pools.engine" in words
    ]


@pytest.mark.chaos  # what is judged lost, and when, tests/work_pools/test_hosts.py asks every time
def test_lost(process_trials: Platform, check: Check, few: int, tmp_path: Path) -> None:
    drill = Drill(process_trials, "host lost")
    with other_host(process_trials, tmp_path) as host:
        held = drill.submit(4, gate="middle")
        for job in held:
            drill.wait_at("middle", {job})
        lost = jobs_there(process_trials)
        assert len(lost) == 2, "each host runs two jobs"
        dead = {process.environ()["PREFECT__FLOW_RUN_ID"] for process in lost}
        for process in [*host, *lost]:
            process.kill()
    drill.deaths |= dict.fromkeys(dead, datetime.now(UTC))
    drill.submit(max(0, few - 4))
    wait_until(lambda: len(list(drill.runs(type={"any_": ["CRASHED"]}))) == 2, 40, "both crashed")
    for job in held:
        drill.release(job)
    row = check(drill)
    assert row.requeued == 2
    assert max(row.delays) <= TARGET, row
