"""Why a job waits: from what the server says of its pool."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import WorkPool, WorkQueue

from deployments.jobs.queries.explain import in_fair_order, may_start, why_it_waits
from deployments.jobs.queries.pool_state import PoolState
from deployments.status import AgentStatus
from tasks.contracts import AgentReport


def pool(**more: Any) -> WorkPool:
    return WorkPool.model_validate({"name": "docker", "type": "docker"} | more)


def state(**more: Any) -> PoolState:
    known: dict[str, Any] = {
        "pool": pool(),
        "queue": WorkQueue(name="low", work_pool_id=uuid4()),
        "online": 1,
        "offline": 0,
        "taken": 2,
        "agents": [],
        "running": [("find-primes", 1.0), ("find-primes", 2.0)],
    }
    return PoolState(**(known | more))


def agent(**failed: str) -> AgentStatus:
    report = AgentReport(
        host="host-a",
        pool="docker",
        worker="host-a",
        failed=failed,
        running=0,
        holds_intake=True,
        at=datetime.now(UTC),
    )
    return AgentStatus(report, 0.0)


@pytest.mark.parametrize(
    ("found", "name", "before", "reason"),
    [
        (state(), "low", 3, "3 jobs are served before it, and 2 jobs are running on the pool"),
        (state(), "low", 1, "1 job is served before it"),
        (state(), "low", 0, "it is next: 2 jobs are running on the pool docker, and it starts"),
        (state(running=[]), "low", 0, "it is next: a worker takes it within seconds"),
        (
            state(pool=pool(is_paused=True)),
            *("low", 0, "the pool docker is paused: resume it with `prefect work-pool resume"),
        ),
        (
            state(
                pool=pool(is_paused=True),
                agents=[agent(engine="does not answer")],
            ),
            *("low", 0, "until this is cured: engine on host-a: does not answer"),
        ),
        (
            state(queue=WorkQueue(name="low", work_pool_id=uuid4(), is_paused=True)),
            "low",
            0,
            "the queue low is paused",
        ),
        (state(queue=None), "hihg", None, "'hihg', which is none of high, normal, low"),
        (state(online=0), "low", 0, "no worker serves the pool docker now: start one with"),
        (state(online=0, offline=2), "low", 0, "no worker serves the pool docker now; 2 have been"),
        (
            state(pool=pool(concurrency_limit=0)),
            *("low", 0, "no job may run at once: `prefecture scale` was called with 0"),
        ),
        (
            state(pool=pool(concurrency_limit=2)),
            *("low", 0, "2 jobs run on the pool docker, as many as `prefecture scale` allows"),
        ),
    ],
)
def test_why_a_job_waits(found: PoolState, name: str, before: int | None, reason: str) -> None:
    (said,) = why_it_waits(found, name, "Scheduled", before)
    assert reason in said


def test_slots_are_the_least_of_what_is_known() -> None:
    limited = pool(concurrency_limit=1)
    assert state(pool=limited).slots == 1
    assert state().slots == 2
    assert state(taken=None).slots == 2
    assert state(taken=4).slots == 4


def test_a_place_among_users_who_share_the_queue_is_none_of_its_own() -> None:
    said = in_fair_order(1200, 7, "normal")
    assert said.startswith("users share the queue normal: of the 1,200 before it, 7 of them of the")
    assert "same user" not in in_fair_order(3, None, "normal")


@pytest.mark.parametrize(
    "found",
    [
        state(pool=pool(is_paused=True)),
        state(queue=WorkQueue(name="low", work_pool_id=uuid4(), is_paused=True)),
        state(online=0),
        state(drained=1),
        state(unfit="no host offers what it asks for: host-a has not the label ssd"),
    ],
    ids=range(5),
)
def test_nobody_knows_when_a_job_starts_that_cannot(found: PoolState) -> None:
    assert not may_start(found)
    assert may_start(state())
