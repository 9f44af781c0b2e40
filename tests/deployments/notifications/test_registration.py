"""What `prefecture apply` makes of the declared subscribers, on a real server."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient

from deployments.notifications.automations import apply_automations
from deployments.notifications.declaration import read_subscribers
from deployments.notifications.ledger import open_ledger
from deployments.notifications.registration import Registration, prepare
from tasks.settings import Settings
from tests.support.blocks import save_notifier, save_secret
from tests.support.platform import Platform

DECLARED = """
subscribers:
  - { name: ops, to: { block: custom-webhook/declared } }
  - { name: gallery, to: { webhook: { url: "https://nobody.invalid/", secret: secret/declared } } }
  - { name: anna, to: { email: { to: [anna@example.org] } } }
smtp: { host: mail.example.org, from: jobs@example.org }
"""


@pytest.fixture
async def client(server: Platform) -> AsyncGenerator[PrefectClient]:
    async with get_client() as client:
        yield client
        await apply_automations(client, [])


async def look(client: PrefectClient, settings: Settings, text: str) -> Registration:
    settings.home.mkdir(parents=True, exist_ok=True)
    file = settings.home / "notifications.yaml"
    file.write_text(text)
    return await prepare(client, settings, read_subscribers(file))


async def automations(client: PrefectClient) -> list[str]:
    found = [automation.name for automation in await client.read_automations()]
    return sorted(name for name in found if name.startswith("prefecture: "))


async def test_each_is_put_where_those_look_who_tell_him(client: PrefectClient, home: Path) -> None:
    settings = Settings(home=home)
    await save_notifier("declared", "https://nobody.invalid/")
    await save_secret("declared", "whsec_" + "A" * 44)
    registration = await look(client, settings, DECLARED)
    assert registration.faults == []
    await registration.put(client, settings)
    assert await automations(client) == ["prefecture: ops"]
    async with open_ledger(settings) as ledger:
        kept = {subscriber.name: subscriber for subscriber in await ledger.subscribers()}
    assert kept == {one.name: one for one in registration.subscribers if one.at_least_once}
    assert sorted(kept) == ["anna:anna@example.org", "gallery"]
    # Taken out of the file, they are out of force.
    await (await look(client, settings, "subscribers: []")).put(client, settings)
    assert await automations(client) == []
    async with open_ledger(settings) as ledger:
        assert await ledger.subscribers() == []


async def test_all_that_is_missing_is_found_and_the_others_are_put(
    client: PrefectClient, home: Path
) -> None:
    settings = Settings(home=home)
    text = DECLARED.replace("/declared", "/no-such-block")
    registration = await look(client, settings, text)
    block, secret = registration.faults
    assert block.startswith(
        "subscriber 'ops': there is no block custom-webhook/no-such-block: create"
    )
    assert secret.startswith("subscriber 'gallery': there is no block secret/no-such-block: save")
    await registration.put(client, settings)
    assert await automations(client) == []
    async with open_ledger(settings) as ledger:
        # What is delivered at least once waits for its secret.
        names = [subscriber.name for subscriber in await ledger.subscribers()]
    assert sorted(names) == ["anna:anna@example.org", "gallery"]


def test_apply_refuses_in_one_line_before_it_changes_anything(server: Platform, home: Path) -> None:
    home.mkdir()
    declared = home / "declared.yaml"
    declared.write_text(DECLARED.replace("/declared", "/no-such-block"))
    asked = server.environment | {"PREFECTURE_NOTIFICATIONS": str(declared)}
    answer = replace(server, environment=asked).command("prefecture", "apply", "--pool", "process")
    assert answer.returncode == 1
    assert "subscriber 'ops': there is no block custom-webhook/no-such-block" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
