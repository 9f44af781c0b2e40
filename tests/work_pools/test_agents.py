"""Which reports and heartbeats an agent reads, and how often, on a stock Prefect server."""

from collections.abc import Generator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.contracts import AgentReport
from tasks.settings import Settings
from tests.support.other_hosts import heartbeat, report
from tests.support.platform import rest
from tests.support.recorded import recorded_client
from tests.support.servers import stock_server
from work_pools.supervisor.agents import Agents


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    """A server with the pool `process`."""

    def not_reported(_: AgentReport) -> None:
        """No event is asked for, and its sender would outlive the server."""

    monkeypatch.setattr("tasks.runtime.events.agent_reported", not_reported)
    with stock_server(tmp_path) as api, temporary_settings({PREFECT_API_URL: api}):
        pool = {"name": "process", "type": "process"}
        assert rest(api, "POST", "/work_pools/", pool).is_success
        yield api


async def test_more_agents_and_workers_than_one_request_reads_are_all_heard(
    api: str, tmp_path: Path
) -> None:
    workers = [f"other-{number:03}" for number in range(401)]
    for worker in workers:
        report(api, worker)
    for number in range(201):
        heartbeat(api, f"worker-{number:03}")
    requests = list[str]()
    async with recorded_client(api, requests) as client:
        agents = Agents(client, "process", "here", "own", Settings(home=tmp_path))
        assert agents.alone
        await agents.report({}, running=0)
        assert [worker for worker in workers if not agents.is_online(worker)] == []
        assert agents.hosts == 402
        assert not agents.is_online("nobody")
        assert not agents.is_silent("worker-200")
        read = [path for path in requests if path.endswith("/filter")]
        assert len(read) == 5  # three pages of agents, two of workers

        requests.clear()
        await agents.report({}, running=0)
        assert [path for path in requests if path.endswith("/filter")] == []
        await agents.report({"disk": "full"}, running=0)
        assert [path for path in requests if path.endswith("/filter")] == []
        await agents.refresh(0)
        assert [path for path in requests if path.endswith("/filter")] == read
        await agents.deregister()
