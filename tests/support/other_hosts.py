"""Hosts that are not there: what their workers and the agents beside them would say, over REST."""

from datetime import UTC, datetime
from uuid import UUID

from tasks.contracts import AgentReport
from tests.support.platform import Platform, rest


def report(api: str, worker: str, pool: str = "process", *, holds_intake: bool = False) -> None:
    """What the agent beside a worker of another host would report."""
    report = AgentReport(
        host="elsewhere",
        pool=pool,
        worker=worker,
        failed={},
        running=1,
        holds_intake=holds_intake,
        at=datetime.now(UTC),
    )
    body = {"name": report.variable, "value": report.model_dump(mode="json")}
    if not rest(api, "PATCH", f"/variables/name/{report.variable}", body).is_success:
        assert rest(api, "POST", "/variables/", body).is_success


def held_run(platform: Platform, worker: str, directory: str) -> UUID:
    """A run that a worker has taken, and of which nothing is heard."""
    response = platform.create(
        "find-primes/low",
        parameters={"payload": {"upper_bound": 10}, "results_directory": directory},
        state={"type": "RUNNING"},
        labels={"prefect.worker.name": worker},
    )
    response.raise_for_status()
    return UUID(response.json()["id"])


def heartbeat(api: str, worker: str, pool: str = "process") -> None:
    """A heartbeat of the worker of another host."""
    answer = rest(api, "POST", f"/work_pools/{pool}/workers/heartbeat", {"name": worker})
    assert answer.is_success, answer.text
