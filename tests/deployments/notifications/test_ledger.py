"""The notifier's ledger, on a real database."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from deployments.notifications.ledger import Ledger, keep_subscribers, open_ledger
from deployments.notifications.schema import DeliveryState, JobEnd
from deployments.notifications.subscribers import Subscriber
from tasks.runtime.events import JobCompleted, JobFailed
from tasks.settings import Settings

WEBHOOK = {"webhook": {"url": "https://example.org/hook", "secret": "secret/key"}}
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def subscriber(name: str, **jobs: list[str]) -> Subscriber:
    return Subscriber.model_validate({"name": name, "jobs": jobs, "to": WEBHOOK})


def completed(job: UUID, task: str = "find-primes") -> JobCompleted:
    return JobCompleted(
        job=job, task=task, name="swift-fox", results_directory="d", tags=["user:anna"],
        ended=NOW, attempts=1, waited=0.5, ran=2, location="/results/d", files=3, bytes=100,
    )  # fmt: skip


def failed(job: UUID) -> JobFailed:
    known = completed(job).model_dump(exclude={"outcome", "location", "files", "bytes"})
    return JobFailed(**known, reason="no such source: put files there")


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
async def ledger(settings: Settings) -> AsyncGenerator[Ledger]:
    async with open_ledger(settings) as ledger:
        yield ledger


async def test_an_end_makes_one_delivery_for_each_who_wants_it(ledger: Ledger) -> None:
    block = Subscriber.model_validate({"name": "chat", "to": {"block": "slack-webhook/ops"}})
    await ledger.keep([subscriber("all"), subscriber("failures", outcomes=["failed"]), block])
    job = uuid4()
    assert await ledger.record([(completed(job), job)]) == [completed(job)]
    ((delivery, ended),) = await ledger.due("all", 10)
    assert ended == completed(job)
    assert (delivery.job, delivery.attempts, delivery.state) == (job, 0, DeliveryState.OPEN)
    assert await ledger.due("failures", 10) == []
    assert await ledger.due("chat", 10) == []


async def test_of_two_ends_of_a_job_written_together_the_first_counts(ledger: Ledger) -> None:
    await ledger.keep([subscriber("all")])
    job = uuid4()
    assert await ledger.record([(completed(job), job), (failed(job), uuid4())]) == [completed(job)]
    assert len(await ledger.due("all", 10)) == 1


async def test_the_first_end_of_a_job_is_the_only_one(ledger: Ledger, settings: Settings) -> None:
    await ledger.keep([subscriber("all")])
    job = uuid4()
    async with open_ledger(settings) as other:
        ends: list[list[tuple[JobEnd, UUID]]] = [
            [(completed(job), job)], [(failed(job), uuid4())],
        ] * 5  # fmt: skip
        ledgers = [ledger, other] * 5
        new = await asyncio.gather(
            *(one.record(end) for one, end in zip(ledgers, ends, strict=True))
        )
    assert sum(map(len, new)) == 1
    assert len(await ledger.due("all", 10)) == 1
    assert await ledger.ended([job, uuid4()]) == {job}


async def test_of_ends_written_together_all_stand_or_none(ledger: Ledger) -> None:
    await ledger.keep([subscriber("all")])
    jobs = [uuid4() for _ in range(3)]

    def broken_off() -> list[tuple[JobEnd, UUID]]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        await ledger.record(
            end for ends in ([(completed(jobs[0]), jobs[0])], None) for end in ends or broken_off()
        )
    assert await ledger.ended(jobs) == set()
    assert await ledger.due("all", 10) == []


async def test_subscribers_are_replaced_and_what_is_open_for_the_gone_is_dropped(
    ledger: Ledger, settings: Settings
) -> None:
    await keep_subscribers(settings, [subscriber("stays"), subscriber("goes")])
    await ledger.record([(completed(job := uuid4()), job)])
    await keep_subscribers(settings, [subscriber("stays", tags=["user:anna"]), subscriber("new")])
    assert await ledger.subscribers() == [
        subscriber("new"),
        subscriber("stays", tags=["user:anna"]),
    ]
    for name, due in {"stays": 1, "goes": 0, "new": 0}.items():
        assert len(await ledger.due(name, 10)) == due, name
    await keep_subscribers(settings, [])
    assert await ledger.subscribers() == []


async def test_a_delivery_is_due_again_when_its_time_has_come(ledger: Ledger) -> None:
    await ledger.keep([subscriber("all")])
    await ledger.record([(completed(job := uuid4()), job)])
    ((delivery, _),) = await ledger.due("all", 10)
    delivery.attempts, delivery.last_error = 1, "500"
    delivery.next_try = datetime.now(UTC) + timedelta(hours=1)
    await ledger.keep_result(delivery)
    assert await ledger.due("all", 10) == []
    delivery.next_try = datetime.now(UTC) - timedelta(seconds=1)
    await ledger.keep_result(delivery)
    ((again, _),) = await ledger.due("all", 10)
    assert (again.id, again.attempts, again.last_error) == (delivery.id, 1, "500")
    again.state, again.delivered_at = DeliveryState.DELIVERED, datetime.now(UTC)
    await ledger.keep_result(again)
    assert await ledger.due("all", 10) == []


async def test_a_result_of_a_dropped_delivery_is_not_kept(ledger: Ledger) -> None:
    await ledger.keep([subscriber("goes")])
    await ledger.record([(completed(job := uuid4()), job)])
    ((delivery, _),) = await ledger.due("goes", 10)
    await ledger.keep([])
    await ledger.keep_result(delivery)
    await ledger.keep([subscriber("goes")])
    assert await ledger.due("goes", 10) == []


async def test_the_due_are_given_the_longest_due_first_and_no_more_than_asked(
    ledger: Ledger,
) -> None:
    await ledger.keep([subscriber("all")])
    jobs = [uuid4() for _ in range(1200)]
    assert len(await ledger.record((completed(job), job) for job in jobs)) == 1200
    some = await ledger.due("all", 4)
    assert [delivery.job for delivery, _ in some] != []
    assert len(some) == 4
    assert await ledger.ended([*jobs, uuid4()]) == set(jobs)


async def test_new_ledger_begins_now_and_watermarks_are_kept(settings: Settings) -> None:
    before = datetime.now(UTC)
    async with open_ledger(settings) as ledger:
        begun = await ledger.watermark("ends")
        assert before <= begun <= datetime.now(UTC)
        await ledger.advance("ends", NOW)
        await ledger.advance("ends", NOW + timedelta(microseconds=1))
    async with open_ledger(settings) as ledger:
        assert await ledger.watermark("ends") == NOW + timedelta(microseconds=1)
        assert await ledger.watermark("received") == begun


async def test_what_the_server_has_not_heard_is_remembered(ledger: Ledger) -> None:
    first, second = uuid4(), uuid4()
    await ledger.record([(completed(first), first)])
    await ledger.record([(completed(second), second)])
    assert [outcome.job for outcome in await ledger.unannounced(10)] == [first, second]
    assert [outcome.job for outcome in await ledger.unannounced(1)] == [first]
    await ledger.mark_announced(await ledger.unannounced(1))
    assert [outcome.job for outcome in await ledger.unannounced(10)] == [second]


async def test_a_later_revision_takes_the_place_of_the_end_and_its_deliveries(
    ledger: Ledger,
) -> None:
    await ledger.keep([subscriber("all"), subscriber("failures", outcomes=["failed"])])
    job = uuid4()
    await ledger.record([(failed(job), job)])
    ((former, _),) = await ledger.due("all", 10)
    (said,) = await ledger.unannounced(10)
    end = completed(job).model_copy(update={"revision": 2})
    assert await ledger.record([(end, job), (end, job)]) == [end]
    assert await ledger.final_events([job, uuid4()]) == {job: end}
    ((delivery, ended),) = await ledger.due("all", 10)
    assert (delivery.id != former.id, ended) == (True, end)
    assert await ledger.due("failures", 10) == []
    # What was under way for the former says nothing about the new one.
    former.state = DeliveryState.DELIVERED
    await ledger.keep_result(former)
    await ledger.mark_announced([said])
    assert [delivery.id for delivery, _ in await ledger.due("all", 10)] == [delivery.id]
    assert [outcome.event for outcome in await ledger.unannounced(10)] == [end]
    assert await ledger.record([(failed(job), job)]) == []


async def test_a_digest_is_all_that_was_gathered_and_the_same_at_each_try(
    ledger: Ledger,
) -> None:
    gathering = subscriber("all").model_copy(update={"every": 60.0})
    await ledger.keep([gathering])
    jobs = [uuid4() for _ in range(1000)]
    await ledger.record((failed(job), job) for job in jobs)
    assert await ledger.digest("all", 3600) == [], "they are gathered still"
    found = await ledger.digest("all", 0)
    assert {delivery.job for delivery, _ in found} == {*jobs}
    (digest,) = {delivery.digest for delivery, _ in found}
    await ledger.record([(failed(late := uuid4()), late)])
    again = await ledger.digest("all", 0)
    assert [delivery.job for delivery, _ in again] == [delivery.job for delivery, _ in found]
    delivery = again[0][0]
    delivery.attempts, delivery.next_try = 1, datetime.now(UTC) + timedelta(hours=1)
    await ledger.keep_result(delivery)
    assert await ledger.digest("all", 0) == [], "one message at a time"
    delivery.next_try = datetime.now(UTC)
    await ledger.keep_result(delivery)
    assert {d.attempts for d, _ in await ledger.digest("all", 0)} == {1}
    delivery.state = DeliveryState.DELIVERED
    await ledger.keep_result(delivery)
    ((rest, _),) = await ledger.digest("all", 0)
    assert rest.job == late
    assert rest.digest not in (None, digest)
    # A subscriber that gives up its digests gets the rest one by one.
    assert await ledger.due("all", 10) == []
    await ledger.keep([subscriber("all")])
    assert [delivery.job for delivery, _ in await ledger.due("all", 10)] == [late]


async def test_recipients_that_jobs_name_are_reached_at_allowed_domains_alone(
    ledger: Ledger,
) -> None:
    smtp = {"host": "mail.example.org", "from": "jobs@example.org"}
    email = {"domains": ["Example.org"], "smtp": smtp}
    named = Subscriber.model_validate({"name": "named", "to": {"email": email}})
    await ledger.keep([named])
    tags = [
        *("notify:anna@example.org", "notify:Bob@EXAMPLE.org", "notify:anna@example.org"),
        *("notify:eve@evil.org", "notify:eve@sub.example.org", "notify:eve@example.org.evil.org"),
        *("notify:a,b@example.org", "notify:@example.org", "notify:example.org", "notify:"),
        *("notify:x y@example.org", "notify:x@evil.org,y@example.org", "anna@example.org"),
    ]
    end = completed(job := uuid4()).model_copy(update={"tags": tags})
    await ledger.record([(end, job)])
    people = await ledger.subscribers()
    assert [one.name for one in people] == ["named:Bob@EXAMPLE.org", "named:anna@example.org"]
    for one in people:
        assert one.to.email is not None
        assert one.to.email.to == [one.name.removeprefix("named:")]
        assert one.gathers == 60
        ((_, ended),) = await ledger.digest(one.name, 0)
        assert ended == end
    many = [f"notify:n{n}@example.org" for n in range(50)]
    crowd = completed(other := uuid4()).model_copy(update={"tags": many})
    await ledger.record([(crowd, other)])
    assert len(await ledger.subscribers()) == 2 + 10
    # A domain that is allowed no more.
    other_domain = {"email": email | {"domains": ["example.com"]}}
    await ledger.keep([Subscriber.model_validate({"name": "named", "to": other_domain})])
    assert await ledger.subscribers() == []


async def test_ledger_of_an_older_version_is_kept(settings: Settings) -> None:
    async with open_ledger(settings) as ledger:
        await ledger.keep([subscriber("all")])
        await ledger.record([(completed(job := uuid4()), job)])
    with closing(sqlite3.connect(settings.home / "prefecture.db")) as database:
        database.execute("DROP INDEX ix_delivery_digest")
        database.execute("ALTER TABLE delivery DROP COLUMN digest")
    async with open_ledger(settings) as ledger:
        assert [delivery.job for delivery, _ in await ledger.due("all", 10)] == [job]
