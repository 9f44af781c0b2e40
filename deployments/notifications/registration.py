"""Puts the declared subscribers into force: those of automations on the server, the others here."""

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
    """The file that declares subscribers."""
    return (settings.notifications or _DECLARATION).expanduser()


@dataclass
class Registration:
    """Subscribers, looked at on the server and ready to be put into force."""

    subscribers: list[Subscriber]
    automations: list[AutomationCore] = field(default_factory=list[AutomationCore])
    faults: list[str] = field(default_factory=list[str])
    """What would keep a subscriber from being reached, in one line each."""

    async def put(self, client: PrefectClient, settings: Settings) -> None:
        """Put them into force, in the place of those before.

        One with a fault too: what is delivered at least once waits until it can be, and a block's
        automation is missing until the next time.
        """
        await apply_automations(client, self.automations)
        await keep_subscribers(settings, [one for one in self.subscribers if one.at_least_once])


async def prepare(
    client: PrefectClient, settings: Settings, subscribers: list[Subscriber]
) -> Registration:
    """Look whether the blocks and secrets are there, and the addresses may be reached."""
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
