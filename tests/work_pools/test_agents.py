"""How many other agents an agent reads, on a stock Prefect server."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.contracts import AgentReport
from tasks.settings import Settings
from tests.support.platform import http
from tests.support.servers import stock_server
from work_pools.supervisor.agents import Agents


def speak(api: str, worker: str) -> None:
    """What the agent beside a worker of another host would report."""
    report = AgentReport(
        host="elsewhere",
        pool="process",
        worker=worker,
        failed={},
        running=0,
        holds_intake=False,
        at=datetime.now(UTC),
    )
    body = {"name": report.variable, "value": report.model_dump(mode="json")}
    assert http().post(f"{api}/variables/", json=body).is_success


async def test_more_agents_than_one_request_reads_are_all_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_told(report: AgentReport) -> None:
        """No event is asked for, and its sender would outlive the server."""

    monkeypatch.setattr("tasks.events.agent_reported", not_told)
    workers = [f"other-{number:03}" for number in range(401)]
    with stock_server(tmp_path) as api, temporary_settings({PREFECT_API_URL: api}):
        for worker in workers:
            speak(api, worker)
        async with PrefectClient(api) as client:
            agents = Agents(client, "process", "here", "own", Settings(home=tmp_path))
            assert agents.alone
            await agents.report({}, running=0)
            assert [worker for worker in workers if not agents.speaks(worker)] == []
            assert not agents.speaks("nobody")
            await agents.leave()
