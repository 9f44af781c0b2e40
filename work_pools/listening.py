"""The server's events: they make a loop look sooner, and none of them is relied upon."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventAnyResourceFilter, EventFilter, EventNameFilter
from prefect.events.schemas.events import ResourceSpecification

from tasks.errors import in_short

_log = logging.getLogger(__name__)


async def listen(
    pool: str, names: Sequence[str], heard: Callable[[str | None], None], again: float
) -> None:
    """Call `heard` with the name of each event of a pool's runs by one of these names, for ever.

    And with None whenever the subscription begins: what happened before was not heard. `again`:
    seconds before a broken one is made anew.
    """
    own = ResourceSpecification(
        {"prefect.resource.role": "work-pool", "prefect.resource.name": pool}
    )
    # Not `related`, which Prefect's server does not look at where events are streamed.
    wanted = EventFilter(
        event=EventNameFilter(name=[*names]), any_resource=EventAnyResourceFilter(labels=own)
    )
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as subscriber:
                heard(None)
                async for event in subscriber:
                    heard(event.event)
        except Exception as error:  # noqa: BLE001  # a websocket breaks in many ways; the looks go on
            _log.info("events come again soon: %s", in_short(error))
        await asyncio.sleep(again)
