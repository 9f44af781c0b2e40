"""Subscription to the server's events: they wake a polling loop early; no loop relies on them."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.events.schemas.events import ResourceSpecification

from tasks.errors import in_short

_log = logging.getLogger(__name__)


async def listen(
    pool: str, names: Sequence[str], notify: Callable[[str | None], None], reconnect: float
) -> None:
    """Call `notify` with the name of each event in `names` of a pool's runs; never returns.

    Also calls it with None whenever a subscription begins: earlier events may have been missed.
    `reconnect`: seconds before a broken subscription is opened again.
    """
    own = ResourceSpecification(
        {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
    )
    # Not the filter `related`: Prefect's server ignores it for streamed events.
    wanted = EventFilter(
        event=EventNameFilter(name=[*names]), any_resource=EventAnyResourceFilter(labels=own)
    )
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as subscriber:
                notify(None)
                async for event in subscriber:
                    notify(event.event)
        except Exception as error:  # noqa: BLE001  # a websocket breaks in many ways; polling goes on
            _log.info("no events for now, subscribing again: %s", in_short(error))
        await asyncio.sleep(reconnect)
