"""Which hosts are drained: read from the server, where that is kept."""

from collections.abc import Iterable
from uuid import uuid4

from prefect.client.orchestration import PrefectClient
from prefect.events import Event

from tasks.contracts import DRAIN_VARIABLES, Drain, Pool
from tasks.prefect_api.variables import read_variables, values_as

DRAIN_CHANGED = "prefecture.host.drain-changed"
"""The event that a host is drained, or no longer, or until another time."""


async def read_drains(client: PrefectClient) -> list[Drain]:
    """Read which hosts are drained."""
    found = await read_variables(client, DRAIN_VARIABLES)
    return [drain for _, drain in values_as(found, Drain)]


def drain_of(drains: Iterable[Drain], host: str, worker: str) -> Drain | None:
    """The drain of a worker, the one that ends soonest; None where there is none."""
    found = [drain for drain in drains if drain.covers(host, worker)]
    return min(found, key=lambda drain: (drain.until is None, drain.until), default=None)


async def announce_drain(client: PrefectClient, host: str) -> None:
    """Send the event that wakes workers and supervisors of all pools. None relies on it."""
    related = [
        {
            "prefect.resource.id": f"prefecture.pool.{pool}",
            "prefect.resource.role": "work-pool",
            "prefect.resource.name": pool.value,
        }
        for pool in Pool
    ]
    event = Event.model_validate(
        {
            "id": uuid4(),
            "event": DRAIN_CHANGED,
            "resource": {"prefect.resource.id": f"prefecture.host.{host}"},
            "related": related,
        }
    )
    await client.request("POST", "/events", json=[event.model_dump(mode="json")])
