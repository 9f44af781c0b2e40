"""The notifications of a drill's jobs: a webhook that is told of each end."""

import asyncio
import base64
import json
from collections import defaultdict
from uuid import UUID

from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.notifications.ledger import keep_subscribers, open_ledger
from deployments.notifications.subscribers import Subscriber
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.table import Row
from tests.support.blocks import save_secret
from tests.support.platform import wait_until
from tests.support.several.topology import Topology
from tests.support.web.receiver import Receiver

_KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def subscribe(several: Topology, drill: Drill, listener: Receiver) -> None:
    """Subscribe the receiver, and nobody else, to the drill's jobs."""
    with temporary_settings({PREFECT_API_URL: drill.platform.api}):
        asyncio.run(save_secret("key", _KEY))
    to = {"webhook": {"url": listener.url, "secret": "secret/key"}}
    wanted = {"name": "all", "jobs": {"tags": [drill.name]}, "to": to}
    subscriber = Subscriber.model_validate(wanted)
    asyncio.run(keep_subscribers(several.settings, [subscriber]))


def notified(listener: Receiver) -> dict[UUID, set[str]]:
    """The ids of the notifications of each job's end. What is sent again has the same id."""
    found: dict[UUID, set[str]] = defaultdict(set)
    for request in listener.requests:
        job = UUID(json.loads(request.body)["data"]["job"])
        found[job].add(request.headers["webhook-id"])
    return found


def wait_until_recorded(several: Topology) -> None:
    """Wait until the ledger has the results of all deliveries that are due."""

    async def is_recorded() -> bool:
        async with open_ledger(several.settings) as ledger:
            return not await ledger.due("all", 1)

    wait_until(lambda: asyncio.run(is_recorded()), what="all deliveries are recorded")


def each_is_notified_once(
    several: Topology, drill: Drill, listener: Receiver, row: Row | None = None
) -> None:
    """Wait until every end is notified and recorded, and assert that none was notified twice."""
    wait_until(lambda: notified(listener).keys() >= drill.jobs.keys(), what="all are notified")
    wait_until_recorded(several)
    found = notified(listener)
    more = {job: ids for job, ids in found.items() if len(ids) > 1 or job not in drill.jobs}
    if row is not None:
        row.again = len(more)
    assert not more, "notified twice"
