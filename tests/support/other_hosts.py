"""Hosts that are not there: what their workers and the agents beside them would say, over REST."""

from datetime import UTC, datetime

from tasks.contracts import AgentReport
from tests.support.platform import rest


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


def heartbeat(api: str, worker: str, pool: str = "process") -> None:
    """A heartbeat of the worker of another host."""
    answer = rest(api, "POST", f"/work_pools/{pool}/workers/heartbeat", {"name": worker})
    assert answer.is_success, answer.text
