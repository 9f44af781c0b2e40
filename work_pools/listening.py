"""The server's events: they make a loop look sooner, and none of them is relied upon."""

import asyncio
import logging
from collections.abc import Sequence

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from tasks.errors import in_short

_log = logging.getLogger(__name__)


async def wake_on(names: Sequence[str], wake: asyncio.Event, again: float) -> None:
    """Set `wake` at each event by one of these names, until cancelled.

    And whenever the subscription begins: what happened before was not heard. `again`: seconds
    before a broken one is made anew.
    """
    wanted = EventFilter(event=EventNameFilter(name=[*names]))
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as subscriber:
                wake.set()
                async for _ in subscriber:
                    wake.set()
        except Exception as error:  # noqa: BLE001  # a websocket breaks in many ways; the looks go on
            _log.info("events come again soon: %s", in_short(error))
        await asyncio.sleep(again)
