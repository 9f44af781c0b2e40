"""Automations on a real server, and what its notification blocks send to a real receiver."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.events.schemas.automations import AutomationCore

from deployments.notifications.automations import TAG, apply_automations, automation_for
from deployments.notifications.subscribers import Subscriber
from tasks.errors import OperatorError
from tasks.runtime.events import JobEnded, send_events
from tests.support.blocks import save_notifier, save_secret
from tests.support.outcomes import cancelled, completed, failed
from tests.support.platform import Platform, wait_until
from tests.support.web.receiver import Receiver, receiver

BLOCK = "custom-webhook/listener"


@pytest.fixture
async def client(server: Platform) -> AsyncGenerator[PrefectClient]:
    """A client of a server that has no automation of ours, before and after."""
    async with get_client() as client:
        await apply_automations(client, [])
        yield client
        await apply_automations(client, [])


@pytest.fixture
def listener() -> Generator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
async def block(client: PrefectClient, listener: Receiver) -> str:
    """A notification block that sends to the listener."""
    return await save_notifier("listener", listener.url)


def subscriber(name: str = "ops", **jobs: Sequence[str]) -> Subscriber:
    return Subscriber.model_validate({"name": name, "jobs": jobs, "to": {"block": BLOCK}})


async def put(client: PrefectClient, *subscribers: Subscriber) -> None:
    wanted = [await automation_for(client, one, BLOCK) for one in subscribers]
    await apply_automations(client, wanted)


async def standing(client: PrefectClient) -> dict[str, dict[str, Any]]:
    response = await client.request("POST", "/automations/filter", json={})
    return {automation["name"]: automation for automation in response.json()}


async def tell_all(client: PrefectClient, *ended: JobEnded) -> None:
    await send_events(client, [(one, uuid4(), datetime.now(UTC)) for one in ended])


async def said(listener: Receiver, ends: Sequence[JobEnded], number: int) -> list[dict[str, str]]:
    """The requests that the listener got about these ends, once there are so many.

    A job of another test on the same server may end meanwhile, and has requests too.
    """
    jobs = {str(end.job) for end in ends}

    def messages() -> list[dict[str, str]]:
        shown = [json.loads(request.body) for request in listener.requests]
        return [message for message in shown if any(job in message["body"] for job in jobs)]

    await asyncio.to_thread(
        wait_until, lambda: len(messages()) >= number, what=f"{number} notifications"
    )
    return messages()


async def test_applied_again_nothing_changes(client: PrefectClient, block: str) -> None:
    both = subscriber("ops", outcomes=["failed"]), subscriber("team", tags=["team-*", "urgent"])
    await put(client, *both)
    before = await standing(client)
    assert {"prefecture: ops", "prefecture: team"} <= {*before}
    await put(client, *both)
    assert await standing(client) == before


async def test_automation_follows_its_subscriber_and_goes_with_it(
    client: PrefectClient, block: str
) -> None:
    await put(client, subscriber("ops"), subscriber("team"))
    first = (await standing(client))["prefecture: ops"]
    await put(client, subscriber("ops", tasks=["find-primes"]))
    now = await standing(client)
    assert "prefecture: team" not in now
    assert now["prefecture: ops"]["id"] == first["id"]
    assert now["prefecture: ops"]["trigger"]["match"]["prefecture.task"] == ["find-primes"]


async def test_paused_automation_stays_paused(client: PrefectClient, block: str) -> None:
    await put(client, subscriber())
    await client.pause_automation(UUID((await standing(client))["prefecture: ops"]["id"]))
    for tasks in (["find-primes"], ["compress-images"]):
        await put(client, subscriber(tasks=tasks))
        assert (await standing(client))["prefecture: ops"]["enabled"] is False


async def test_two_of_one_name_become_one(client: PrefectClient, block: str) -> None:
    wanted = await automation_for(client, subscriber(), BLOCK)
    ids = [await client.create_automation(wanted) for _ in range(2)]
    await apply_automations(client, [wanted])
    left = [one for one in await client.read_automations_by_name(wanted.name)]
    assert len(left) == 1
    assert left[0].id in ids


async def test_automations_of_others_are_left_alone(client: PrefectClient, block: str) -> None:
    ours = await automation_for(client, subscriber(), BLOCK)
    others = [
        ours.model_copy(update={"name": "prefecture: ops", "tags": []}),
        ours.model_copy(update={"name": "mine", "tags": [TAG]}),
    ]
    ids = [await client.create_automation(other) for other in others]
    try:
        await put(client, subscriber(outcomes=["failed"]))
        await apply_automations(client, [])
        for id, other in zip(ids, others, strict=True):
            kept = await client.read_automation(id)
            assert kept is not None
            assert kept.model_dump(include={*AutomationCore.model_fields}) == other.model_dump()
    finally:
        for id in ids:
            await client.delete_automation(id)


async def test_block_that_is_missing_or_notifies_nobody_is_named_with_the_cure(
    client: PrefectClient,
) -> None:
    with pytest.raises(
        OperatorError, match=r"'ops': there is no block slack-webhook/none: create it"
    ):
        await automation_for(client, subscriber(), "slack-webhook/none")
    with pytest.raises(OperatorError, match=r"'ops': there is no block no-such-type/none"):
        await automation_for(client, subscriber(), "no-such-type/none")
    await save_secret("no-notifier", "x")
    with pytest.raises(OperatorError, match="secret/no-notifier is no notification block"):
        await automation_for(client, subscriber(), "secret/no-notifier")


async def test_block_sends_each_end_that_its_subscriber_wants_once(
    client: PrefectClient, block: str, listener: Receiver
) -> None:
    await put(
        client,
        subscriber("all"),
        subscriber("failures", outcomes=["failed"]),
        subscriber("pictures", tasks=["compress-images"]),
        subscriber("team", tags=["team-*", "urgent"]),
    )
    done = completed()
    ends = [
        done,
        failed(),
        cancelled(task="compress-images"),
        completed(tags=["team-a", "user:anna"]),
        failed(tags=["team"]),
    ]
    await tell_all(client, *ends)
    await tell_all(client, *ends)  # sent again, an event is the same event
    wanted = len(ends) + 2 + 1 + 1
    await said(listener, ends, wanted)
    # A last one, which comes after whatever was one too many.
    last = completed(results_directory="last")
    await tell_all(client, last)
    messages = await said(listener, [*ends, last], wanted + 1)
    assert len(messages) == wanted + 1
    subjects = sorted(message["subject"] for message in messages)
    assert subjects == sorted(
        [
            *["find-primes primes/höhere: completed"] * 3,
            *["find-primes primes/höhere: failed"] * 4,
            *["compress-images primes/höhere: cancelled"] * 2,
            "find-primes last: completed",
        ]
    )
    [body] = [message["body"] for message in messages if str(done.job) in message["body"]]
    assert "3 files, 12.0 kB, in\n/results/primes/höhere/1" in body
    assert f"prefecture results {done.job}" in body
