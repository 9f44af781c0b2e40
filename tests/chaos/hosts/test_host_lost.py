"""A second host joins the pool and is lost, with all that ran on it: the others take over."""

from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.elsewhere import MARK, OTHER, other_host
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until
from tests.support.processes import processes
from tests.support.session.on_time import OnTime

TARGET = 30.0  # seconds from the loss of a host to the next attempt Running


def jobs_there(platform: Platform) -> list[psutil.Process]:
    """The jobs that the other host runs."""
    return [
        process
        for process, words, environment in processes(platform)
        if environment.get(MARK) == OTHER and "work_pools.entrypoint.run" in words
    ]


@pytest.mark.chaos  # what is judged lost, and when, tests/work_pools/test_hosts.py asks every time
def test_lost(
    process_trials: Platform, check: Check, few: int, tmp_path: Path, on_time: OnTime
) -> None:
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
    wait_until(lambda: len(list(drill.runs(type={"any_": ["CRASHED"]}))) == 2, what="both crashed")
    for job in held:
        drill.release(job)
    row = check(drill)
    assert row.requeued == 2
    on_time(max(row.delays) <= TARGET, row)
