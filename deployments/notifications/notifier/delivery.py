"""Delivers notifications from the notification database to each subscriber, at least once."""

import asyncio
import logging
import random
import traceback
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from sqlalchemy.exc import SQLAlchemyError

from deployments.notifications.channels import Digest, Notification, send
from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import repeat
from deployments.notifications.schema import Delivery, DeliveryState, JobEnd
from deployments.notifications.subscribers import Subscriber
from tasks.errors import DeliveryFailed, DeliveryRefused, in_short
from tasks.runtime.events import JobEvent, NotificationUndelivered, known, send_events
from tasks.settings import Settings

_INTERVAL = 1.0  # seconds between two reads of what is due
_AT_ONCE = 4  # concurrent deliveries to one subscriber
_LONGEST = 60.0  # seconds for one try: longer than the time limit of every channel
_LONGEST_PAUSE = 3600.0  # seconds between two tries
_GIVE_UP = timedelta(days=3)  # after the delivery was created
_LAST = 5.0  # seconds at shutdown for deliveries in progress
_log = logging.getLogger(__name__)

_Message = Sequence[tuple[Delivery, JobEnd]]
"""The deliveries in one message, with their final events."""


class Deliverer:
    """Serves each subscriber by itself: a receiver that hangs does not delay the others."""

    def __init__(self, client: PrefectClient, ledger: Ledger, settings: Settings) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings
        self._wake = asyncio.Event()
        self._under_way = defaultdict[str, dict[UUID, asyncio.Task[None]]](dict)

    def wake(self) -> None:
        """Signal that the database has new deliveries."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; deliveries in progress then have 5 s to finish."""
        try:
            await repeat(self.look, self._wake)
        finally:
            under_way = [task for tasks in self._under_way.values() for task in tasks.values()]
            if under_way:
                _, late = await asyncio.wait(under_way, timeout=_LAST)
                for task in late:
                    task.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    async def look(self) -> float:
        """Start the deliveries that are due. Returns the seconds to the next call."""
        for subscriber in await self._ledger.subscribers():
            under_way = self._under_way[subscriber.name]
            if subscriber.gathers is None:
                # Deliveries in progress are still due and come first: leave them out.
                due = await self._ledger.due(subscriber.name, _AT_ONCE)
                messages = [[one] for one in due if one[0].id not in under_way]
                messages = messages[: max(0, _AT_ONCE - len(under_way))]
            elif under_way:
                continue
            else:
                gathered = await self._ledger.digest(subscriber.name, subscriber.gathers)
                messages = [gathered] if gathered else []
            for message in messages:
                id = message[0][0].id
                under_way[id] = asyncio.create_task(self._deliver(subscriber, id, message))
        return _INTERVAL

    async def _deliver(self, subscriber: Subscriber, id: UUID, message: _Message) -> None:
        delivery = message[0][0]  # holds the state of all deliveries in the message
        try:
            final = await self._try(subscriber, message)
            await self._store(delivery)
            over = final or datetime.now(UTC) - delivery.created > _GIVE_UP
            if over and delivery.state == DeliveryState.OPEN:
                await self._give_up(message)
        finally:
            del self._under_way[subscriber.name][id]
            self._wake.set()

    async def _try(self, subscriber: Subscriber, message: _Message) -> bool:
        """Send a message once, and set the result on its first delivery.

        Returns whether the receiver refuses it for good.
        """
        delivery, event = message[0]
        notification = (
            Notification(delivery.digest or delivery.id, event)
            if len(message) == 1
            else Digest(delivery.digest or delivery.id, [event for _, event in message])
        )
        what = delivery.job if len(message) == 1 else f"{len(message)} jobs"
        delivery.attempts += 1
        final, retry_after = False, 0.0
        try:
            async with asyncio.timeout(_LONGEST):
                await send(subscriber, notification, self._settings)
        except DeliveryFailed as error:
            final = isinstance(error, DeliveryRefused)
            delivery.last_error, retry_after = str(error), error.retry_after or 0.0
        except TimeoutError:
            delivery.last_error = f"not within {_LONGEST:.0f} s"
        except Exception as error:  # noqa: BLE001  # a bug, which an update may fix: retry
            # Without the message of the error, which could hold a secret address.
            trace = "".join(traceback.format_tb(error.__traceback__))
            delivery.last_error = f"{type(error).__name__} in the notifier: see its log"
            _log.error("%s, to %s: %s\n%s", *(what, subscriber.name, type(error), trace))
        else:
            delivery.state, delivery.delivered_at = DeliveryState.DELIVERED, datetime.now(UTC)
            _log.info("%s, to %s: delivered", what, subscriber.name)
            return False
        pause = max(retry_after, backoff(delivery.attempts))
        delivery.next_try = datetime.now(UTC) + timedelta(seconds=min(pause, _LONGEST_PAUSE))
        _log.warning(
            "%s, to %s: attempt %s: %s; next try in %.0f s",
            *(what, subscriber.name, delivery.attempts, delivery.last_error, pause),
        )
        return final

    async def _give_up(self, message: _Message) -> None:
        delivery, now = message[0][0], datetime.now(UTC)
        events = [
            NotificationUndelivered(
                **final.model_dump(include={*JobEvent.model_fields, "revision"}),
                subscriber=delivery.subscriber,
                attempts=delivery.attempts,
                reason=delivery.last_error or "",
            )
            for _, final in message
        ]
        try:
            has = await known(self._client, (event.event_id for event in events))
            new = [event for event in events if event.event_id not in has]
            await send_events(self._client, ((event, event.job, now) for event in new))
        except httpx.HTTPError as error:
            _log.warning("%s: %s", delivery.job, in_short(error))
            return  # the event is sent after the next try
        delivery.state = DeliveryState.GIVEN_UP
        await self._store(delivery)
        for _, final in message:
            reason = delivery.last_error
            _log.error("%s, to %s: given up: %s", final.job, delivery.subscriber, reason)

    async def _store(self, delivery: Delivery) -> None:
        """Store the result of a try; retry until that succeeds, or it would be delivered twice."""
        while True:
            try:
                return await self._ledger.keep_result(delivery)
            except SQLAlchemyError as error:
                _log.warning(
                    "%s: the result of a delivery is not stored yet: %s",
                    delivery.job,
                    in_short(error),
                )
                await asyncio.sleep(_INTERVAL)


def backoff(attempts: int) -> float:
    """Seconds to the next try after `attempts` tries: 1, 2, 4 … 3600, each ± 25 %."""
    return min(2.0 ** min(attempts - 1, 20), _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
