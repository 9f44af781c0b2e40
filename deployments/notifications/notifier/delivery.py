"""Delivers to each subscriber what the books have for them, at least once, in their own time."""

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
from tasks.runtime.events import JobEvent, NotificationUndelivered, known, tell
from tasks.settings import Settings

_LOOK = 1.0  # seconds between two looks at what is due
_AT_ONCE = 4  # deliveries to one subscriber that are under way
_LONGEST = 60.0  # seconds that one try may take: more than any channel takes by itself
_LONGEST_PAUSE = 3600.0  # seconds between two tries
_GIVE_UP = timedelta(days=3)  # after a delivery was first due
_LAST = 5.0  # seconds in which what is under way may still end
_log = logging.getLogger(__name__)

_Parcel = Sequence[tuple[Delivery, JobEnd]]
"""What goes out in one message."""


class Deliverer:
    """Each subscriber is served alone: one that hangs holds nobody else up."""

    def __init__(self, client: PrefectClient, ledger: Ledger, settings: Settings) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings
        self._wake = asyncio.Event()
        self._under_way = defaultdict[str, dict[UUID, asyncio.Task[None]]](dict)

    def wake(self) -> None:
        """There is something to deliver."""
        self._wake.set()

    async def run(self) -> None:
        """Deliver until cancelled; what is under way then has a little time to end."""
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
        for subscriber in await self._ledger.subscribers():
            under_way = self._under_way[subscriber.name]
            if subscriber.gathers is None:
                # Those under way are due still, and are among those that are due longest.
                due = await self._ledger.due(subscriber.name, _AT_ONCE)
                parcels = [[one] for one in due if one[0].id not in under_way]
                parcels = parcels[: max(0, _AT_ONCE - len(under_way))]
            elif under_way:
                continue
            else:
                gathered = await self._ledger.digest(subscriber.name, subscriber.gathers)
                parcels = [gathered] if gathered else []
            for parcel in parcels:
                id = parcel[0][0].id
                under_way[id] = asyncio.create_task(self._deliver(subscriber, id, parcel))
        return _LOOK

    async def _deliver(self, subscriber: Subscriber, id: UUID, parcel: _Parcel) -> None:
        delivery = parcel[0][0]  # of several in one message, it stands for all
        try:
            final = await self._try(subscriber, parcel)
            await self._write_down(delivery)
            over = final or datetime.now(UTC) - delivery.created > _GIVE_UP
            if over and delivery.state == DeliveryState.OPEN:
                await self._give_up(parcel)
        finally:
            del self._under_way[subscriber.name][id]
            self._wake.set()

    async def _try(self, subscriber: Subscriber, parcel: _Parcel) -> bool:
        """One try, and in the first delivery what came of it.

        Returns whether the receiver's no is final.
        """
        delivery, ended = parcel[0]
        notification = (
            Notification(delivery.digest or delivery.id, ended)
            if len(parcel) == 1
            else Digest(delivery.digest or delivery.id, [ended for _, ended in parcel])
        )
        what = delivery.job if len(parcel) == 1 else f"{len(parcel)} jobs"
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
        except Exception as error:  # noqa: BLE001  # a bug of ours, which an update may cure
            # Without its message, which could hold an address that is a secret.
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
            "%s, to %s: attempt %s: %s; again in %.0f s",
            *(what, subscriber.name, delivery.attempts, delivery.last_error, pause),
        )
        return final

    async def _give_up(self, parcel: _Parcel) -> None:
        delivery, now = parcel[0][0], datetime.now(UTC)
        events = [
            NotificationUndelivered(
                **ended.model_dump(include={*JobEvent.model_fields, "revision"}),
                subscriber=delivery.subscriber,
                attempts=delivery.attempts,
                reason=delivery.last_error or "",
            )
            for _, ended in parcel
        ]
        try:
            has = await known(self._client, (event.event_id for event in events))
            new = [event for event in events if event.event_id not in has]
            await tell(self._client, ((event, event.job, now) for event in new))
        except httpx.HTTPError as error:
            _log.warning("%s: %s", delivery.job, in_short(error))
            return  # the server is told after another try
        delivery.state = DeliveryState.GIVEN_UP
        await self._write_down(delivery)
        for _, ended in parcel:
            reason = delivery.last_error
            _log.error("%s, to %s: given up: %s", ended.job, delivery.subscriber, reason)

    async def _write_down(self, delivery: Delivery) -> None:
        """Until it stands: what was delivered must not be due any more."""
        while True:
            try:
                return await self._ledger.keep_result(delivery)
            except SQLAlchemyError as error:
                _log.warning("%s: not written down yet: %s", delivery.job, in_short(error))
                await asyncio.sleep(_LOOK)


def backoff(attempts: int) -> float:
    """Seconds after so many tries to the next: 1, 2, 4 … up to an hour, a quarter more or less."""
    return min(2.0 ** min(attempts - 1, 20), _LONGEST_PAUSE) * random.uniform(0.75, 1.25)
