"""The channels that deliver at least once: signed webhooks and e-mail."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from deployments.notifications.channels import mail, webhook
from deployments.notifications.schema import JobEnd
from deployments.notifications.subscribers import Subscriber
from tasks.errors import DeliveryFailed, DeliveryRefused, OperatorError
from tasks.settings import Settings

__all__ = ["DeliveryFailed", "DeliveryRefused", "Digest", "Notification", "check", "send"]


class Notification(NamedTuple):
    """A message to one subscriber about one job; the id is the same at each try."""

    id: UUID
    event: JobEnd


class Digest(NamedTuple):
    """A message to one subscriber about several jobs; the id is the same at each try."""

    id: UUID
    events: Sequence[JobEnd]


async def send(
    subscriber: Subscriber, notification: Notification | Digest, settings: Settings
) -> None:
    """Send a notification once; return when the receiver has accepted it.

    Raises DeliveryRefused where the receiver will never accept it, and DeliveryFailed where it did
    not accept it now: retry with the same notification.
    """
    id, private = notification.id, settings.allow_private_webhooks
    if subscriber.to.webhook is not None:
        body = (
            webhook.encode(notification.event)
            if isinstance(notification, Notification)
            else webhook.encode_digest(notification.events)
        )
        await webhook.send(subscriber.to.webhook, id, body, private)
    if (email := subscriber.to.email) is not None:
        message = (
            mail.compose(email, id, notification.event)
            if isinstance(notification, Notification)
            else mail.compose_digest(email, id, notification.events)
        )
        await mail.send(email, message)


async def check(subscriber: Subscriber, settings: Settings) -> None:
    """Check the secrets and the address of a subscriber, before the first notification.

    Raises OperatorError where a secret is missing or the address is not allowed.
    """
    try:
        if subscriber.to.webhook is not None:
            await webhook.check(subscriber.to.webhook, settings.allow_private_webhooks)
        if subscriber.to.email is not None:
            await mail.check(subscriber.to.email)
    except DeliveryFailed as error:
        raise OperatorError(f"subscriber {subscriber.name!r}: {error}") from error
