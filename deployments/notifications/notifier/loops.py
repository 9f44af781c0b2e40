"""The loops of the notifier: poll at an interval; events of the server only shorten it."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable

from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from tasks.errors import in_short
from tasks.prefect_api.transient import is_transient

_PAUSE = 1.0  # seconds after an error
_log = logging.getLogger(__name__)


async def repeat(
    step: Callable[[], Awaitable[float]], wake: asyncio.Event, gather: float = 0.0
) -> None:
    """Call `step` for ever, each time after the seconds that it returned or when `wake` is set.

    `gather`: seconds to wait after the wake-up, so that one call handles a burst of events.
    """
    while True:
        wake.clear()
        try:
            pause = await step()
        except Exception as error:  # noqa: BLE001  # logged and retried: the loop must not end
            _log.warning(
                "retrying after an error: %s", in_short(error), exc_info=not is_transient(error)
            )
            await asyncio.sleep(_PAUSE)
            continue
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), pause)
            await asyncio.sleep(gather)


async def listen(
    names: Iterable[str],
    on_event: Callable[[Event], None],
    connected: Callable[[], None] = lambda: None,
) -> None:
    """Call `on_event` for events with these names; the server may lose some.

    `connected` is called after each connection: events before it may be missed.
    """
    wanted = EventFilter(event=EventNameFilter(name=[*names]))
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as subscriber:
                connected()
                async for event in subscriber:
                    on_event(event)
        except Exception as error:  # noqa: BLE001  # a websocket fails in many ways; polling continues
            _log.info("reconnecting to the events of the server: %s", in_short(error))
        await asyncio.sleep(_PAUSE)
