"""The worker ends, alone or with what it runs: what lives goes on, what died runs again."""

import signal
from collections.abc import Callable

import psutil
import pytest

from tests.chaos.harness.choice import long, named
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.pending import worker_frozen_before_start
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until
from tests.support.processes import worker
from tests.support.session.on_time import OnTime

TARGET = 30.0  # seconds from the loss of a worker to the next attempt Running
SIGNALS = [signal.SIGKILL, signal.SIGTERM]
ENDS = [signal.SIGKILL, long(signal.SIGTERM)]


@pytest.mark.parametrize(
    ("trials", "number"),
    [
        ("docker", signal.SIGKILL),
        ("process", signal.SIGTERM),
        long("docker", signal.SIGTERM),
        long("process", signal.SIGKILL),
    ],
    indirect=["trials"],
    ids=named,
)
def test_alone(
    trials: Platform, check: Check, few: int, number: signal.Signals, on_time: OnTime
) -> None:
    drill = Drill(trials, f"{number.name} worker")
    held = drill.submit_held(few, "middle")
    drill.all_die()
    worker(trials).send_signal(number)
    for job in held:
        drill.release(job)
    row = check(drill)
    on_time(not row.delays or max(row.delays) <= TARGET, row)


@pytest.mark.thorough
@pytest.mark.parametrize("number", ENDS, ids=named)
def test_with_its_jobs(
    trials: Platform, check: Check, few: int, number: signal.Signals, on_time: OnTime
) -> None:
    drill = Drill(trials, f"{number.name} worker, jobs")
    held = drill.submit_held(few, "middle")
    worker(trials).send_signal(number)
    for job in held:
        drill.kill_at("middle", job)
    row = check(drill)
    assert row.requeued >= 2
    on_time(max(row.delays) <= TARGET, row)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", SIGNALS, ids=named)
def test_ten_times(trials: Platform, check: Check, count: int, number: signal.Signals) -> None:
    drill = Drill(trials, f"{number.name} worker x 10")
    drill.submit(2 * count, hold=3)
    killed = set[int]()
    for _ in range(10):
        wait_until(drill.running, what="a job runs")
        process = wait_until(another(trials, killed), what="a new worker")
        killed.add(process.pid)
        process.send_signal(number)
    check(drill, timeout=600)


def another(platform: Platform, killed: set[int]) -> Callable[[], psutil.Process | None]:
    def look() -> psutil.Process | None:
        process = worker(platform)
        return None if process.pid in killed else process

    return look


@pytest.mark.thorough
@pytest.mark.parametrize("number", ENDS, ids=named)
def test_between_pending_and_container(
    docker_trials: Platform, check: Check, few: int, number: signal.Signals, on_time: OnTime
) -> None:
    drill = Drill(docker_trials, f"{number.name} worker, Pending")
    drill.submit(few, hold=0.5)
    with worker_frozen_before_start(drill) as lost:
        drill.all_die()
        worker(docker_trials).send_signal(number)
    row = check(drill)
    assert row.requeued >= (len(lost) if number is signal.SIGKILL else 0)
    on_time(not row.delays or max(row.delays) <= TARGET, row)
