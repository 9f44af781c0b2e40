"""The channels that deliver at least once: signed webhooks and e-mail."""

from dataclasses import dataclass
from uuid import UUID

from deployments.notifications.channels import mail, webhook
from deployments.notifications.subscribers import Subscriber
from tasks.errors import DeliveryFailed, OperatorError
from tasks.runtime.events import JobCancelled, JobCompleted, JobFailed
from tasks.settings import Settings

__all__ = ["DeliveryFailed", "Notification", "check", "send"]


@dataclass(frozen=True)
class Notification:
    """What one subscriber is told of one job's end, with the same id at each try."""

    id: UUID
    ended: JobCompleted | JobFailed | JobCancelled


async def send(subscriber: Subscriber, notification: Notification, settings: Settings) -> None:
    """Hand a notification over once; returns when the receiver has taken it.

    Raises DeliveryFailed where it has not, which may pass: try again, with the same notification.
    """
    private = settings.allow_private_webhooks
    if subscriber.to.webhook is not None:
        await webhook.send(subscriber.to.webhook, notification.id, notification.ended, private)
    if subscriber.to.email is not None:
        await mail.send(subscriber.to.email, notification.id, notification.ended)


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
