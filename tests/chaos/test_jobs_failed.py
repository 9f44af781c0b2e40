"""Crashes that another attempt would not mend, and those that never stop: failed, in one line."""

from datetime import datetime
from typing import Any

import pytest

from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform
from tests.support.session.on_time import OnTime


def only_line(drill: Drill) -> str:
    """What the last attempt at every job says, which is the same."""
    (message,) = {runs[-1]["state"]["message"] for runs in drill.attempts().values()}
    assert message
    assert "\n" not in message
    return message


@pytest.mark.thorough
@on("docker", long("process"))
def test_crashes_every_time(trials: Platform, check: Check, few: int) -> None:
    drill = Drill(trials, "crashes every time")
    drill.submit(min(few, 2), fault="kill", attempts=99)
    row = check(drill, "FAILED")
    assert row.requeued == 4 * row.jobs
    assert "5" in only_line(drill)


@pytest.mark.parametrize("code", [127, long(126), long(125)])
def test_exit_code_of_a_wrong_command(docker_trials: Platform, check: Check, code: int) -> None:
    drill = Drill(docker_trials, f"exit code {code}")
    drill.submit(2, fault="exit", code=code)
    assert check(drill, "FAILED").requeued == 0
    assert str(code) in only_line(drill)


@pytest.mark.thorough
def test_another_exit_code(docker_trials: Platform, check: Check) -> None:
    drill = Drill(docker_trials, "exit code 1")
    drill.submit(2, fault="exit", code=1)
    assert check(drill).requeued == 2


def test_time_limit(trials: Platform, check: Check, on_time: OnTime) -> None:
    drill = Drill(trials, "time limit")
    drill.submit(2, variables={"max_duration": 3}, hold=600)
    assert check(drill, "FAILED").requeued == 0
    assert only_line(drill).startswith("time limit")
    for run in drill.runs():
        took = at(run, "end_time") - at(run, "start_time")
        assert took.total_seconds() >= 3
        on_time(took.total_seconds() <= 20, run)


def at(run: dict[str, Any], field: str) -> datetime:
    return datetime.fromisoformat(run[field])
