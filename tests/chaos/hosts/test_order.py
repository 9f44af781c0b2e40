"""Two API servers that are asked for jobs at the same moment keep to the order of the queues."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.chaos.harness.drill import rest
from tests.support.platform import PATIENCE
from tests.support.session.environment import PASSWORD
from tests.support.several.topology import Topology

MANY = 500  # jobs that one request makes


def fill(several: Topology, pool: str) -> str:
    """Make a pool that no host serves, with many runs in `low` and one in `high`. Returns the
    latter's id."""
    flow = rest(several.platform, "POST", "/flows/", {"name": pool})["id"]
    rest(several.platform, "POST", "/work_pools/", {"name": pool, "type": "process"})
    made: list[str] = []
    for priority, (queue, count) in enumerate({"high": 1, "low": MANY}.items(), 1):
        body: dict[str, Any] = {"name": queue, "priority": priority}
        rest(several.platform, "POST", f"/work_pools/{pool}/queues", body)
        body = {"name": queue, "flow_id": flow, "work_pool_name": pool, "work_queue_name": queue}
        path = f"/deployments/{rest(several.platform, 'POST', '/deployments/', body)['id']}"
        keys = (f"{queue} {number}" for number in range(count))
        jobs: list[Any] = [{"parameters": {}, "idempotency_key": key} for key in keys]
        made += rest(several.platform, "POST", f"{path}/create_jobs", {"jobs": jobs})
    return made[0]


async def look(several: Topology, pool: str, times: int) -> list[list[str]]:
    """Ask all API servers for the first run in a pool's queues, all at once. Returns the ids that
    each of them answers."""
    body = {"limit": 1, "scheduled_before": datetime.now(UTC).isoformat()}
    path = f"/work_pools/{pool}/get_scheduled_flow_runs"
    user, _, password = PASSWORD.partition(":")
    async with httpx.AsyncClient(auth=(user, password), timeout=PATIENCE) as client:
        asked = [
            client.post(f"{api}{path}", json=body) for _ in range(times) for api in several.servers
        ]
        answers = await asyncio.gather(*asked)
    return [[one["flow_run"]["id"] for one in answer.json()] for answer in answers]


@pytest.mark.thorough
def test_looks_at_two_servers_keep_to_the_order(several: Topology) -> None:
    first = fill(several, "order")
    found = asyncio.run(look(several, "order", 32))
    assert [ids for ids in found if ids != [first]] == []
