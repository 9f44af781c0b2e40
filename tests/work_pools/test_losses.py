"""When an attempt counts as lost, and when it is left alone."""

from dataclasses import replace
from typing import Any

import pytest
from prefect.client.schemas.objects import StateType

from tasks.settings import Settings
from work_pools.supervisor.losses import (
    GRACE,
    Observation,
    loss_elsewhere,
    loss_here,
    loss_of_unknown,
)

SETTINGS = Settings(pending_limit=60, agent_timeout=20)
RUNNING = Observation(StateType.RUNNING, missed=GRACE, instances=1)
PENDING = Observation(StateType.PENDING, missed=GRACE)


@pytest.mark.parametrize(
    ("observation", "reason"),
    [
        (RUNNING, "its container or process is gone"),
        (replace(RUNNING, instances=0), "its container or process is gone"),
        (replace(RUNNING, state=StateType.CANCELLING), "cancelled"),
        (replace(PENDING, state=StateType.CANCELLING), "cancelled"),
        (replace(PENDING, instances=1), "its container or process ended before it ran"),
        (replace(PENDING, orphaned=True), "its worker ended before it started it"),
        (replace(PENDING, missed=60), "not started for 60 s"),
    ],
)
def test_lost(observation: Observation, reason: str) -> None:
    assert reason in (loss_here(observation, SETTINGS) or "")


@pytest.mark.parametrize(
    "observation",
    [
        replace(RUNNING, alive=1),
        replace(RUNNING, missed=GRACE / 2),
        PENDING,
        replace(PENDING, missed=59),
        replace(PENDING, orphaned=True, missed=GRACE / 2),
        replace(PENDING, missed=600, instances=1, alive=1),
    ],
)
def test_left_alone(observation: Observation) -> None:
    assert loss_here(observation, SETTINGS) is None


@pytest.mark.parametrize(("all_online", "limit"), [(False, 20), (True, 60)])
def test_taken_by_a_worker_that_never_said_who_it_is(all_online: bool, limit: int) -> None:
    def loss(**seen: Any) -> str | None:
        return loss_of_unknown(replace(PENDING, **seen), all_online, SETTINGS)

    assert loss(missed=limit - 1) is None
    assert loss(missed=limit) == f"lost: no worker has claimed it for {limit} s"
    # The only worker there is was started later, so that it cannot have been that one.
    assert "its worker ended" in (loss(orphaned=True) or "")
    assert loss(orphaned=True, missed=GRACE / 2) is None
    assert loss(state=StateType.CANCELLING) == "cancelled"


def test_on_another_host() -> None:
    long = replace(RUNNING, missed=100)
    assert loss_elsewhere(long, False, SETTINGS) is None
    assert loss_elsewhere(long, True, SETTINGS) == "lost: its host is gone"
    # Put back and taken again just now: its label may be the one of the worker before.
    assert loss_elsewhere(replace(RUNNING, missed=3), True, SETTINGS) is None
