"""Deliveries to real receivers that misbehave, out of a real ledger."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from deployments.notifications.channels import webhook
from deployments.notifications.ledger import Ledger, open_ledger
from deployments.notifications.notifier import delivery as delivery_module
from deployments.notifications.notifier.delivery import Deliverer, backoff
from deployments.notifications.schema import Delivery, DeliveryState
from deployments.notifications.subscribers import Subscriber
from tasks.runtime.events import NotificationUndelivered
from tasks.settings import Settings
from tests.deployments.notifications.services import at_work
from tests.support.blocks import save_secret
from tests.support.outcomes import completed
from tests.support.platform import Platform, wait_until
from tests.support.web.receiver import Answer, Behaviour, Received, Receiver, receiver

KEY = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OK = 204


@pytest.fixture
async def client(server: Platform) -> AsyncGenerator[PrefectClient]:
    async with get_client() as client:
        await save_secret("deliverer-key", KEY)
        yield client


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings.model_validate({"home": home, "allow_private_webhooks": True})


@pytest.fixture
async def ledger(settings: Settings) -> AsyncGenerator[Ledger]:
    async with open_ledger(settings) as ledger:
        yield ledger


@pytest.fixture
def deliverer(client: PrefectClient, ledger: Ledger, settings: Settings) -> Deliverer:
    return Deliverer(client, ledger, settings)


@pytest.fixture
def receivers() -> Generator[list[Receiver]]:
    with ExitStack() as stack:
        yield [stack.enter_context(receiver()) for _ in range(2)]


def to(name: str, receiver: Receiver, key: str = "secret/deliverer-key") -> Subscriber:
    webhook = {"url": receiver.url, "secret": key}
    return Subscriber.model_validate({"name": name, "to": {"webhook": webhook}})


def one_after_the_other(*answers: Behaviour) -> Behaviour:
    """Each of the answers once, the last for ever."""
    rest: Iterator[Behaviour] = chain(answers, repeat(answers[-1]))

    def answer(received: Received) -> int | Answer | None:
        chosen = next(rest)
        assert not callable(chosen)
        return chosen

    return answer


async def end_jobs(ledger: Ledger, count: int) -> list[UUID]:
    ends = [completed() for _ in range(count)]
    await ledger.record((end, end.job) for end in ends)
    return [end.job for end in ends]


async def end_one_job(ledger: Ledger, receiver: Receiver, answer: Behaviour) -> UUID:
    """A job that has ended, of which one subscriber is to hear, and how its receiver answers."""
    receiver.answer = answer
    await ledger.keep([to("one", receiver)])
    (job,) = await end_jobs(ledger, 1)
    return job


async def until(condition: Callable[[], object], seconds: float = 240) -> None:
    await asyncio.to_thread(wait_until, condition, seconds)


def jobs_of(receiver: Receiver) -> list[UUID]:
    return [UUID(json.loads(request.body)["data"]["job"]) for request in receiver.requests]


async def states(settings: Settings) -> dict[UUID, Delivery]:
    """Every delivery, by its job."""
    url = URL.create("sqlite+aiosqlite", database=str(settings.home / "prefecture.db"))
    engine = create_async_engine(url)
    try:
        async with AsyncSession(engine) as session:
            return {delivery.job: delivery for delivery in await session.exec(select(Delivery))}
    finally:
        await engine.dispose()


async def until_delivered(settings: Settings, count: int) -> dict[UUID, Delivery]:
    """Every delivery, once so many are delivered."""
    async with asyncio.timeout(240):
        while True:
            found = await states(settings)
            done = [d for d in found.values() if d.state == DeliveryState.DELIVERED]
            if len(done) == count:
                return found


async def test_each_end_is_delivered_once(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver]
) -> None:
    await ledger.keep([to("one", receivers[0]), to("two", receivers[1])])
    jobs = await end_jobs(ledger, 10)
    async with at_work(deliverer):
        await until(lambda: all(len(receiver.requests) == 10 for receiver in receivers))
        more = await end_jobs(ledger, 1)
        deliverer.wake()
        await until(lambda: all(len(receiver.requests) == 11 for receiver in receivers))
        await until_delivered(settings, 11)
    for one in receivers:
        assert sorted(jobs_of(one)) == sorted([*jobs, *more])
    ids = [request.headers["webhook-id"] for r in receivers for request in r.requests]
    assert len(set(ids)) == len(ids)


async def test_what_was_not_taken_is_tried_again_with_the_same_id(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver]
) -> None:
    job = await end_one_job(ledger, receivers[0], answer=one_after_the_other(500, OK))
    async with at_work(deliverer):
        await until(lambda: len(receivers[0].requests) == 2)
        delivery = (await until_delivered(settings, 1))[job]
    first, second = receivers[0].requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(delivery.id)
    assert (delivery.attempts, delivery.last_error) == (2, "127.0.0.1 answered 500")


@pytest.mark.parametrize(("asked", "given"), [("600", 600), ("86400", 3600)])
async def test_receiver_is_left_alone_for_as_long_as_it_asks_but_an_hour_at_most(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver],
    asked: str, given: float,
) -> None:  # fmt: skip
    job = await end_one_job(ledger, receivers[0], answer=Answer(429, {"Retry-After": asked}))
    async with at_work(deliverer):
        await until(lambda: receivers[0].requests)
    # The deliverer has ended what was under way.
    delivery = (await states(settings))[job]
    wait = (delivery.next_try - datetime.now(UTC)).total_seconds()
    assert given - 300 < wait <= given
    assert (delivery.state, delivery.attempts) == (DeliveryState.OPEN, 1)


async def test_receiver_that_hangs_holds_no_other_up_and_gets_no_more_than_four_at_once(
    deliverer: Deliverer, ledger: Ledger, receivers: list[Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_module, "_LAST", 0.1)
    # Longer than the test: a delivery that is given up makes room for a fifth.
    monkeypatch.setattr(webhook, "_TIMEOUT", 600.0)
    monkeypatch.setattr(delivery_module, "_LONGEST", 600.0)
    hanging, well = receivers
    hanging.answer = lambda _: None
    await ledger.keep([to("hanging", hanging), to("well", well)])
    await end_jobs(ledger, 30)
    async with at_work(deliverer):
        await until(lambda: len(well.requests) == 30 and len(hanging.requests) == 4)
    assert len(set(jobs_of(hanging))) == len(hanging.requests) == 4


async def undelivered(client: PrefectClient, job: UUID) -> NotificationUndelivered:
    """The event of a delivery that was given up, once the server lists it."""
    wanted = EventFilter(
        event=EventNameFilter(name=[NotificationUndelivered.name_of_event]),
        resource=EventResourceFilter(id=[f"prefecture.job.{job}"]),
    )
    async with asyncio.timeout(240):
        while not (events := (await client.read_events(wanted, 10)).events):
            pass
    return NotificationUndelivered.model_validate(events[0].payload)


async def test_one_that_was_never_taken_is_given_up_after_three_days_and_reported(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver],
    client: PrefectClient,
) -> None:  # fmt: skip
    job = await end_one_job(ledger, receivers[0], answer=500)
    url = URL.create("sqlite+aiosqlite", database=str(settings.home / "prefecture.db"))
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        (delivery,) = await session.exec(select(Delivery))
        delivery.created -= timedelta(days=3)
        await session.commit()
    await engine.dispose()
    async with at_work(deliverer):
        await until(lambda: receivers[0].requests)
    assert (await states(settings))[job].state == DeliveryState.GIVEN_UP
    said = await undelivered(client, job)
    assert (said.subscriber, said.attempts) == ("one", 1)
    assert said.reason == "127.0.0.1 answered 500"


async def test_a_final_refusal_is_not_retried_and_is_reported(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver],
    client: PrefectClient,
) -> None:  # fmt: skip
    job = await end_one_job(ledger, receivers[0], answer=410)
    async with at_work(deliverer):
        async with asyncio.timeout(240):
            while (await states(settings))[job].state != DeliveryState.GIVEN_UP:
                pass
    assert len(receivers[0].requests) == 1
    assert (await undelivered(client, job)).reason == "127.0.0.1 answered 410"


async def test_what_is_gathered_is_one_message_with_one_id(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver]
) -> None:
    receivers[0].answer = one_after_the_other(500, OK)
    await ledger.keep([to("one", receivers[0]).model_copy(update={"every": 0.5})])
    jobs = await end_jobs(ledger, 100)
    async with at_work(deliverer):
        await until(lambda: len(receivers[0].requests) == 2)
        delivered = await until_delivered(settings, 100)
    first, second = receivers[0].requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert {delivery.attempts for delivery in delivered.values()} == {2}
    message = json.loads(first.body)
    assert message["type"] == "prefecture.jobs.ended"
    assert sorted(end["job"] for end in message["data"]["jobs"]) == sorted(map(str, jobs))


async def test_subscribers_come_and_go_while_it_is_at_work(
    deliverer: Deliverer, ledger: Ledger, receivers: list[Receiver]
) -> None:
    goes, comes = receivers
    goes.answer = 500
    async with at_work(deliverer):
        await ledger.keep([to("goes", goes)])
        await end_jobs(ledger, 1)
        await until(lambda: goes.requests)
        await ledger.keep([to("comes", comes)])
        (job,) = await end_jobs(ledger, 1)
        await until(lambda: comes.requests)
    assert jobs_of(comes) == [job]
    assert await ledger.due("goes", 10) == []


async def test_a_secret_that_is_missing_is_waited_for(
    deliverer: Deliverer, ledger: Ledger, settings: Settings, receivers: list[Receiver]
) -> None:
    name = f"late-{uuid4().hex[:8]}"
    subscriber = to("one", receivers[0], f"secret/{name}")
    await ledger.keep([subscriber])
    (job,) = await end_jobs(ledger, 1)
    async with at_work(deliverer):
        async with asyncio.timeout(240):
            while (await states(settings))[job].attempts == 0:
                pass
        await save_secret(name, KEY)
        await until_delivered(settings, 1)
    assert jobs_of(receivers[0]) == [job]


def test_pauses_grow_to_an_hour() -> None:
    for attempts, seconds in [(1, 1), (2, 2), (3, 4), (10, 512), (13, 3600), (5000, 3600)]:
        pauses = [backoff(attempts) for _ in range(100)]
        assert seconds * 0.75 <= min(pauses) < max(pauses) <= seconds * 1.25
