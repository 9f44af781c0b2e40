"""The channels that deliver at least once: signed webhooks and e-mail."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from deployments.notifications.channels import mail, webhook
from deployments.notifications.schema import JobEnd
from deployments.notifications.subscribers import Subscriber
from tasks.errors import DeliveryFailed, DeliveryRefused, OperatorError
from tasks.settings import Settings

__all__ = ["DeliveryFailed", "DeliveryRefused", "Digest", "Notification", "check", "send"]


@dataclass(frozen=True)
class Notification:
    """What one subscriber is told of one job's end, with the same id at each try."""

    id: UUID
    ended: JobEnd


@dataclass(frozen=True)
class Digest:
    """The ends of several jobs in one message, the same at each try."""

    id: UUID
    ends: Sequence[JobEnd]


async def send(
    subscriber: Subscriber, notification: Notification | Digest, settings: Settings
) -> None:
    """Hand a notification over once; returns when the receiver has taken it.

    Raises DeliveryFailed where it has not, which may pass: try again, with the same notification;
    and DeliveryRefused where it never will.
    """
    id, private = notification.id, settings.allow_private_webhooks
    if subscriber.to.webhook is not None:
        body = (
            webhook.encode(notification.ended)
            if isinstance(notification, Notification)
            else webhook.encode_digest(notification.ends)
        )
        await webhook.send(subscriber.to.webhook, id, body, private)
    if (email := subscriber.to.email) is not None:
        message = (
            mail.compose(email, id, notification.ended)
            if isinstance(notification, Notification)
            else mail.compose_digest(email, id, notification.ends)
        )
        await mail.send(email, message)


async def check(subscriber: Subscriber, settings: Settings) -> None:
    """Find out before the first job ends what would refuse each delivery.

    Raises OperatorError in one line: a secret is missing, or an address must not be reached.
    """
    try:
        if subscriber.to.webhook is not None:
            await webhook.check(subscriber.to.webhook, settings.allow_private_webhooks)
        if subscriber.to.email is not None:
            await mail.check(subscriber.to.email)
    except DeliveryFailed as error:
        raise OperatorError(f"subscriber {subscriber.name!r}: {error}") from error
