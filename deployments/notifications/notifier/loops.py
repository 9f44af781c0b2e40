"""The loops of the notifier: look again and again; events only make it look sooner."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from tasks.errors import in_short
from tasks.prefect_api.transient import is_transient

_AGAIN = 1.0  # seconds before what broke is tried again
_log = logging.getLogger(__name__)


async def repeat(
    step: Callable[[], Awaitable[float]], wake: asyncio.Event, gather: float = 0.0
) -> None:
    """Take a step again and again: after the seconds that it returned, or when it is woken.

    `gather`: seconds after that, in which more may come to be done with it.
    """
    while True:
        wake.clear()
        try:
            pause = await step()
        except Exception as error:  # noqa: BLE001  # it is logged and tried again: nothing may end this
            _log.warning("trying again: %s", in_short(error), exc_info=not is_transient(error))
            await asyncio.sleep(_AGAIN)
            continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), pause)
            await asyncio.sleep(gather)


async def listen(
    names: Iterable[str],
    heard: Callable[[Event], None],
    connected: Callable[[], None] = lambda: None,
) -> None:
    """Hear of events by these names, as far as the server gets them through.

    `connected` is called whenever it begins to: what happened before was not heard.
    """
    wanted = EventFilter(event=EventNameFilter(name=[*names]))
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as subscriber:
                connected()
                async for event in subscriber:
                    heard(event)
        except Exception as error:  # noqa: BLE001  # a websocket breaks in many ways; the looks go on
            _log.info("events come again soon: %s", in_short(error))
        await asyncio.sleep(_AGAIN)
