"""The books of the notifier: which jobs have ended, and whom each end was delivered to.

SQLite, in the home. What is written together stands together: the end of a job and the deliveries
that it makes are one transaction, so that there is exactly one end of each job and one delivery of
it to each subscriber, whatever is killed when. A job that a person retries in Prefect's UI ends
again: the new final state takes the place of the former, with deliveries of its own.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError
from sqlalchemy import URL, Connection, delete, event, inspect, update
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from deployments.notifications.schema import (
    JOB_END,
    Delivery,
    DeliveryState,
    JobEnd,
    JobOutcome,
    Subscription,
    Table,
    Watermark,
)
from deployments.notifications.subscribers import Subscriber
from tasks.errors import OperatorError
from tasks.settings import Settings

_FILE = "prefecture.db"
_BUSY = 30.0  # seconds to wait for another writer
_MANY = 500  # values in one question to SQLite
_MOST_AT_ONCE = 10_000  # ends in one message
_BEGUN = "begun"  # the watermark of the books' own beginning


class Ledger:
    """The open books. Any number of processes may have them open."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    async def keep(self, subscribers: Sequence[Subscriber]) -> None:
        """Put these in the place of the subscribers there were.

        What was still to be delivered to one that is gone, or that Prefect tells now, is dropped.
        """
        async with self._sessions.begin() as session:
            ours = [one.name for one in await _expanded(session, subscribers) if one.at_least_once]
            alone = [one.name for one in subscribers if one.gathers is None]
            await session.exec(delete(Subscription))
            session.add_all(
                Subscription(name=subscriber.name, spec=subscriber.model_dump_json())
                for subscriber in subscribers
            )
            left = col(Delivery.state) == DeliveryState.OPEN, col(Delivery.subscriber).not_in(ours)
            await session.exec(delete(Delivery).where(*left))
            single = col(Delivery.digest).is_not(None), col(Delivery.subscriber).in_(alone)
            await session.exec(
                update(Delivery)
                .where(col(Delivery.state) == DeliveryState.OPEN, *single)
                .values(digest=None)
            )

    async def subscribers(self) -> list[Subscriber]:
        """All there are now, and each recipient whom a job has named as one of their own.

        Raises OperatorError where another version has written them.
        """
        async with self._sessions.begin() as session:
            return await _expanded(session, await _subscribers(session))

    async def begun(self) -> datetime:
        """When the books were begun: what was before that is not told."""
        async with self._sessions.begin() as session:
            return (await session.get_one(Watermark, _BEGUN)).at

    async def watermark(self, name: str) -> datetime:
        """Up to where the server's flow runs are read; at first, when the books were begun."""
        async with self._sessions.begin() as session:
            mark = await session.get(Watermark, name)
            return (mark or await session.get_one(Watermark, _BEGUN)).at

    async def advance(self, name: str, at: datetime) -> None:
        """Keep a watermark."""
        async with self._sessions.begin() as session:
            await session.merge(Watermark(name=name, at=at))

    async def ended(self, jobs: Iterable[UUID]) -> set[UUID]:
        """Those of the jobs whose end is in the books."""
        found: set[UUID] = set()
        async with self._sessions.begin() as session:
            for some in _in_parts(jobs):
                found |= {
                    *await session.exec(select(JobOutcome.job).where(col(JobOutcome.job).in_(some)))
                }
        return found

    async def ends(self, jobs: Iterable[UUID]) -> dict[UUID, JobEnd]:
        """The ends of those of the jobs that have ended, by job."""
        found: dict[UUID, JobEnd] = {}
        async with self._sessions.begin() as session:
            for some in _in_parts(jobs):
                rows = await session.exec(select(JobOutcome).where(col(JobOutcome.job).in_(some)))
                found |= {row.job: row.event for row in rows}
        return found

    async def record(self, ends: Iterable[tuple[JobEnd, UUID]]) -> list[JobEnd]:
        """Write down ends of jobs, each with the flow run that decided it, and whom to tell.

        Of a job that has ended already nothing is written, but for a later revision of its end: it
        takes the place of the former, and of its deliveries. Returns those that are new.
        """
        now = datetime.now(UTC)
        new: list[JobEnd] = []
        async with self._sessions.begin() as session:
            subscribers = [s for s in await _subscribers(session) if s.at_least_once]
            for ended, flow_run in ends:
                ending = JobOutcome(
                    job=ended.job,
                    flow_run=flow_run,
                    outcome=ended.outcome,
                    payload=ended.model_dump_json(),
                    ended=ended.ended,
                    # Each at a time of its own: events are listed by it.
                    recorded=now + timedelta(microseconds=len(new)),
                )
                former = await session.get(JobOutcome, ended.job)
                if former is not None:
                    if former.event.revision >= ended.revision:
                        continue
                    await session.delete(former)
                    await session.exec(delete(Delivery).where(col(Delivery.job) == ended.job))
                    await session.flush()
                new.append(ended)
                session.add(ending)
                session.add_all(
                    Delivery(
                        job=ended.job,
                        subscriber=name,
                        id=_delivery_id(ended, name),
                        created=now,
                        next_try=now,
                    )
                    for subscriber in subscribers
                    if subscriber.wants(ended)
                    for name in subscriber.names_for(ended)
                )
        return new

    async def unannounced(self, most: int) -> list[JobOutcome]:
        """Ends that the server is not known to have the event of, those written first in front."""
        async with self._sessions.begin() as session:
            unannounced = select(JobOutcome).where(col(JobOutcome.told).is_(False))
            return list(
                await session.exec(unannounced.order_by(col(JobOutcome.recorded)).limit(most))
            )

    async def mark_announced(self, endings: Iterable[JobOutcome]) -> None:
        """Note that the server has the events of these ends; not of those that took their place."""
        recorded = {ending.job: ending.recorded for ending in endings}
        async with self._sessions.begin() as session:
            for some in _in_parts(recorded):
                which = (
                    col(JobOutcome.job).in_(some),
                    col(JobOutcome.recorded).in_([recorded[job] for job in some]),
                )
                await session.exec(update(JobOutcome).where(*which).values(told=True))

    async def due(self, subscriber: str, most: int) -> list[tuple[Delivery, JobEnd]]:
        """What is to be delivered to a subscriber now, that which is due longest in front."""
        open_ = (
            select(Delivery, JobOutcome.payload)
            .join(JobOutcome, col(JobOutcome.job) == col(Delivery.job))
            .where(
                col(Delivery.subscriber) == subscriber,
                col(Delivery.state) == DeliveryState.OPEN,
                col(Delivery.digest).is_(None),
                col(Delivery.next_try) <= datetime.now(UTC),
            )
            .order_by(col(Delivery.next_try))
            .limit(most)
        )
        async with self._sessions.begin() as session:
            return [(d, JOB_END.validate_json(payload)) for d, payload in await session.exec(open_)]

    async def digest(self, subscriber: str, seconds: float) -> list[tuple[Delivery, JobEnd]]:
        """What is to be delivered to a subscriber now in one message; empty where nothing is.

        All that was gathered for so many seconds since the first of it. What is in one message
        stays in it until it is delivered, so that each try is the same.
        """
        now = datetime.now(UTC)
        open_ = col(Delivery.subscriber) == subscriber, col(Delivery.state) == DeliveryState.OPEN
        single = col(Delivery.digest).is_(None)
        async with self._sessions.begin() as session:
            begun = select(Delivery.digest).where(*open_, col(Delivery.digest).is_not(None))
            digest = (await session.exec(begun.limit(1))).first()
            if digest is None:
                waiting = select(Delivery).where(*open_, single).order_by(col(Delivery.created))
                gathered = list(await session.exec(waiting.limit(_MOST_AT_ONCE)))
                if not gathered or gathered[0].created > now - timedelta(seconds=seconds):
                    return []
                digest = uuid4()
                for delivery in gathered:
                    delivery.digest = digest
                    delivery.next_try = now
                    session.add(delivery)
                await session.flush()
            members = (
                select(Delivery, JobOutcome.payload)
                .join(JobOutcome, col(JobOutcome.job) == col(Delivery.job))
                .where(*open_, col(Delivery.digest) == digest, col(Delivery.next_try) <= now)
                .order_by(col(JobOutcome.ended), col(JobOutcome.job))
            )
            found = await session.exec(members)
            return [(d, JOB_END.validate_json(payload)) for d, payload in found]

    async def keep_result(self, delivery: Delivery) -> None:
        """Write down how a delivery went, and all that were in one message with it.

        Nothing where it was dropped meanwhile.
        """
        values = {
            "state": delivery.state,
            "attempts": delivery.attempts,
            "next_try": delivery.next_try,
            "last_error": delivery.last_error,
            "delivered_at": delivery.delivered_at,
        }
        async with self._sessions.begin() as session:
            which = (
                col(Delivery.id) == delivery.id
                if delivery.digest is None
                else col(Delivery.digest) == delivery.digest
            )
            await session.exec(update(Delivery).where(which).values(**values))


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncGenerator[Ledger]:
    """The books of a home, begun where there are none."""
    settings.home.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(settings.home / _FILE)),
        connect_args={"timeout": _BUSY},
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Table.metadata.create_all)
            await connection.run_sync(_add_columns)
            begun = insert(Watermark).values(name=_BEGUN, at=datetime.now(UTC))
            await connection.execute(begun.on_conflict_do_nothing())
        yield Ledger(engine)
    finally:
        await engine.dispose()


async def keep_subscribers(settings: Settings, subscribers: Sequence[Subscriber]) -> None:
    """Put these in the place of the subscribers that the home's books have."""
    async with open_ledger(settings) as ledger:
        await ledger.keep(subscribers)


def _prepare(connection: DBAPIConnection, _: object) -> None:
    # The driver would begin a transaction at the first write alone: what was read before it could
    # be old by then.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _add_columns(connection: Connection) -> None:
    """What tables of an older version lack: columns that may be empty."""
    there = inspect(connection)
    for table in Table.metadata.sorted_tables:
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                connection.exec_driver_sql(
                    f'ALTER TABLE "{table.name}" ADD COLUMN "{column.name}" {kind}'
                )
                for index in table.indexes:
                    if column.name in index.columns:
                        index.create(connection, checkfirst=True)


async def _expanded(session: AsyncSession, subscribers: Sequence[Subscriber]) -> list[Subscriber]:
    """With those whom jobs have named in the place of the subscriber that allows it."""
    if all(subscriber.domains is None for subscriber in subscribers):
        return [*subscribers]
    open_ = select(Delivery.subscriber).where(col(Delivery.state) == DeliveryState.OPEN)
    names = sorted({*await session.exec(open_.distinct())})
    return [one for subscriber in subscribers for one in subscriber.expanded(names)]


async def _subscribers(session: AsyncSession) -> list[Subscriber]:
    rows = await session.exec(select(Subscription).order_by(col(Subscription.name)))
    try:
        return [Subscriber.model_validate_json(row.spec) for row in rows]
    except ValidationError as error:
        raise OperatorError(
            "the subscribers were kept by another version of this: run `prefecture apply` again"
        ) from error


def _delivery_id(ended: JobEnd, subscriber: str) -> UUID:
    again = "" if ended.revision == 1 else f":{ended.revision}"
    return uuid5(ended.job, f"{subscriber}{again}")


def _in_parts(jobs: Iterable[UUID]) -> Iterator[list[UUID]]:
    every = list(jobs)
    return (every[start : start + _MANY] for start in range(0, len(every), _MANY))
