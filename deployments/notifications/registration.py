"""Registers the declared subscribers: as automations on the server, or in the home's database."""

from dataclasses import dataclass, field
from pathlib import Path

from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import AutomationCore

from deployments.notifications import channels
from deployments.notifications.automations import apply_automations, automation_for
from deployments.notifications.ledger import keep_subscribers
from deployments.notifications.subscribers import Subscriber
from deployments.pools import TREE
from tasks.errors import OperatorError
from tasks.settings import Settings

_DECLARATION = TREE / "deployments" / "notifications.yaml"


def declaration(settings: Settings) -> Path:
    """The path of the file that declares subscribers."""
    return (settings.notifications or _DECLARATION).expanduser()


@dataclass
class Registration:
    """Subscribers that were checked against the server and can be registered."""

    subscribers: list[Subscriber]
    automations: list[AutomationCore] = field(default_factory=list[AutomationCore])
    faults: list[str] = field(default_factory=list[str])
    """The reasons why subscribers cannot be notified now, one line each."""

    async def put(self, client: PrefectClient, settings: Settings) -> None:
        """Register the subscribers, in place of all former ones.

        A subscriber with a fault is registered too: its deliveries are retried until they succeed.
        A block with a fault has no automation until the next `prefecture apply`.
        """
        await apply_automations(client, self.automations)
        await keep_subscribers(settings, [s for s in self.subscribers if s.at_least_once])


async def prepare(
    client: PrefectClient, settings: Settings, subscribers: list[Subscriber]
) -> Registration:
    """Check that blocks and secrets exist and that addresses are allowed."""
    registration = Registration(subscribers)
    for subscriber in subscribers:
        try:
            if subscriber.to.block is not None:
                automation = await automation_for(client, subscriber, subscriber.to.block)
                registration.automations.append(automation)
            await channels.check(subscriber, settings)
        except OperatorError as error:
            registration.faults.append(str(error))
    return registration
