"""A job's container or process is killed, wherever it stands: another attempt does the work."""

from statistics import median
from typing import Any

import pytest

from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until
from tests.support.session.on_time import OnTime

TARGET = 5.0  # seconds from a container's death to the next attempt Running
GATES = ["publishing", *map(long, ["start", "middle", "staging", "published"])]


def requeued(drill: Drill, check: Check, count: int, gate: str, **fault: Any) -> int:
    """How many jobs run again, where the first attempt at each is killed at a gate."""
    drill.submit(count, gate=gate, **fault)
    drill.kill_each_at(gate)
    return check(drill).requeued


@pytest.mark.parametrize("gate", GATES)
def test_container(docker_trials: Platform, check: Check, few: int, gate: str) -> None:
    assert requeued(Drill(docker_trials, f"SIGKILL {gate}"), check, few, gate) == few


@pytest.mark.thorough
def test_container_when_a_slot_is_free(
    docker_trials: Platform, check: Check, few: int, on_time: OnTime
) -> None:
    drill = Drill(docker_trials, "SIGKILL, a free slot")
    for _ in range(few):
        (job,) = drill.submit(1, gate="middle")
        drill.wait_at("middle", {job})
        drill.kill_at("middle", job)
        wait_until(lambda: not drill.unfinished(), what="its next attempt has ended")
    row = check(drill)
    on_time(median(row.delays) <= TARGET, row)


@pytest.mark.thorough
@pytest.mark.parametrize("gate", GATES)
def test_process(process_trials: Platform, check: Check, few: int, gate: str) -> None:
    assert requeued(Drill(process_trials, f"SIGKILL {gate}"), check, few, gate) == few


@pytest.mark.thorough
def test_twice_in_a_row(docker_trials: Platform, check: Check) -> None:
    drill = Drill(docker_trials, "SIGKILL twice")
    jobs = drill.submit(2, gate="publishing", attempts=2)
    for attempt in (1, 2):
        for job in jobs:
            drill.wait_at("publishing", {job}, attempt)
            drill.kill_at("publishing", job, attempt)
    assert check(drill).requeued == 4


@pytest.mark.thorough
def test_out_of_memory(docker_trials: Platform, check: Check, few: int) -> None:
    drill = Drill(docker_trials, "out of memory")
    drill.submit(few, variables={"mem_limit": "192m"}, fault="memory")
    assert check(drill).requeued == few
    messages = {run["state"]["message"] for run in drill.runs(type={"any_": ["CRASHED"]})}
    assert all("memory" in message for message in messages), messages


@pytest.mark.thorough
def test_while_the_worker_cannot_read_what_it_says(
    docker_trials: Platform, check: Check, few: int
) -> None:
    # Prefect's Docker worker decodes it strictly, and then looks after that container no more.
    drill = Drill(docker_trials, "non-UTF-8, SIGKILL")
    assert requeued(drill, check, few, "staging", fault="bytes") == few


@pytest.mark.thorough
def test_with_a_log_of_100_megabytes(docker_trials: Platform, check: Check) -> None:
    drill = Drill(docker_trials, "100 MB of log, SIGKILL")
    drill.submit(2, fault="log", megabytes=100, gate="staging")
    drill.kill_each_at("staging")
    assert check(drill, timeout=240).requeued == 2


@pytest.mark.thorough
@on("docker", long("process"))
def test_all_is_tidied_up_within_a_minute(trials: Platform, check: Check) -> None:
    drill = Drill(trials, "SIGKILL, tidied up")
    drill.submit(2, gate="staging")
    drill.kill_each_at("staging")
    check(drill, patience=0)
