"""The notification database: the final state of each job, and its delivery to each subscriber.

SQLite in the home, or PostgreSQL. The final state of a job and its deliveries are written in one
transaction: a job has exactly one final state and one delivery to each subscriber, whichever
process is killed. Where a person retries a job in Prefect's UI, its new final state replaces the
former one, with new deliveries.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4, uuid5

from pydantic import ValidationError
from sqlalchemy import Connection, delete, inspect, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from deployments.notifications.database import make_engine, make_schema
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

_MANY = 500  # values in one query to SQLite
_MAX_DIGEST = 10_000  # jobs in one message
_BEGUN = "begun"  # the watermark that holds the creation time of the database


class Ledger:
    """The open notification database. Any number of processes may have it open."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._sessions = async_sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)

    async def keep(self, subscribers: Sequence[Subscriber]) -> None:
        """Replace all subscribers.

        Drops open deliveries to subscribers that are gone, or that an automation notifies now.
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
        """Read all subscribers; each recipient that a job has named is a subscriber, too.

        Raises OperatorError where another version has written them.
        """
        async with self._sessions.begin() as session:
            return await _expanded(session, await _subscribers(session))

    async def begun(self) -> datetime:
        """The creation time of the database: jobs that ended earlier cause no notification."""
        async with self._sessions.begin() as session:
            return (await session.get_one(Watermark, _BEGUN)).at

    async def watermark(self, name: str) -> datetime:
        """The time up to which flow runs are read; at first, the creation time of the database."""
        async with self._sessions.begin() as session:
            mark = await session.get(Watermark, name)
            return (mark or await session.get_one(Watermark, _BEGUN)).at

    async def advance(self, name: str, at: datetime) -> None:
        """Store a watermark."""
        async with self._sessions.begin() as session:
            await session.merge(Watermark(name=name, at=at))

    async def ended(self, jobs: Iterable[UUID]) -> set[UUID]:
        """Select the jobs that have a final state in the database."""
        found: set[UUID] = set()
        async with self._sessions.begin() as session:
            for some in _in_parts(jobs):
                found |= {
                    *await session.exec(select(JobOutcome.job).where(col(JobOutcome.job).in_(some)))
                }
        return found

    async def final_events(self, jobs: Iterable[UUID]) -> dict[UUID, JobEnd]:
        """Read the final events of jobs, by job; a job without one is left out."""
        found: dict[UUID, JobEnd] = {}
        async with self._sessions.begin() as session:
            for some in _in_parts(jobs):
                rows = await session.exec(select(JobOutcome).where(col(JobOutcome.job).in_(some)))
                found |= {row.job: row.event for row in rows}
        return found

    async def record(self, events: Iterable[tuple[JobEnd, UUID]]) -> list[JobEnd]:
        """Store final events, each with the flow run that decided it, and create their deliveries.

        A later revision replaces the stored event of its job and the deliveries of it; any other
        event of a job that has one is ignored. Returns the events that were stored.
        """
        now = datetime.now(UTC)
        new: list[JobEnd] = []
        async with self._sessions.begin() as session:
            subscribers = [s for s in await _subscribers(session) if s.at_least_once]
            for final, flow_run in events:
                row = JobOutcome(
                    job=final.job,
                    flow_run=flow_run,
                    outcome=final.outcome,
                    payload=final.model_dump_json(),
                    ended=final.ended,
                    # Distinct times: events are listed in their order.
                    recorded=now + timedelta(microseconds=len(new)),
                )
                former = await session.get(JobOutcome, final.job)
                if former is not None:
                    if former.event.revision >= final.revision:
                        continue
                    await session.delete(former)
                    await session.exec(delete(Delivery).where(col(Delivery.job) == final.job))
                    await session.flush()
                new.append(final)
                session.add(row)
                session.add_all(
                    Delivery(
                        job=final.job,
                        subscriber=name,
                        id=_delivery_id(final, name),
                        created=now,
                        next_try=now,
                    )
                    for subscriber in subscribers
                    if subscriber.wants(final)
                    for name in subscriber.names_for(final)
                )
        return new

    async def unannounced(self, most: int) -> list[JobOutcome]:
        """Read outcomes whose event is not confirmed by the server, oldest first."""
        async with self._sessions.begin() as session:
            unannounced = select(JobOutcome).where(col(JobOutcome.announced).is_(False))
            return list(
                await session.exec(unannounced.order_by(col(JobOutcome.recorded)).limit(most))
            )

    async def mark_announced(self, outcomes: Iterable[JobOutcome]) -> None:
        """Store that the server has these events; not for a revision that has replaced one."""
        recorded = {outcome.job: outcome.recorded for outcome in outcomes}
        async with self._sessions.begin() as session:
            for some in _in_parts(recorded):
                which = (
                    col(JobOutcome.job).in_(some),
                    col(JobOutcome.recorded).in_([recorded[job] for job in some]),
                )
                await session.exec(update(JobOutcome).where(*which).values(announced=True))

    async def due(self, subscriber: str, most: int) -> list[tuple[Delivery, JobEnd]]:
        """Read the deliveries to a subscriber that are due, the longest overdue first."""
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
        """Read the deliveries that form the next message to a subscriber; empty if none is due.

        The message gathers deliveries for `seconds` from the first one on. Its members
        are fixed until it is delivered, so that each try sends the same message.
        """
        now = datetime.now(UTC)
        open_ = col(Delivery.subscriber) == subscriber, col(Delivery.state) == DeliveryState.OPEN
        single = col(Delivery.digest).is_(None)
        async with self._sessions.begin() as session:
            begun = select(Delivery.digest).where(*open_, col(Delivery.digest).is_not(None))
            digest = (await session.exec(begun.limit(1))).first()
            if digest is None:
                pending = select(Delivery).where(*open_, single).order_by(col(Delivery.created))
                gathered = list(await session.exec(pending.limit(_MAX_DIGEST)))
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
        """Store the result of a try for a delivery and for all others in the same message.

        Nothing is stored where the delivery was dropped meanwhile.
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
    """Open the notification database that the settings name; create it where there is none."""
    engine = make_engine(settings)
    insert = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert
    try:
        await make_schema(engine)
        async with engine.begin() as connection:
            await connection.run_sync(Table.metadata.create_all)
            await connection.run_sync(_add_columns)
            begun = insert(Watermark).values(name=_BEGUN, at=datetime.now(UTC))
            await connection.execute(begun.on_conflict_do_nothing())
        yield Ledger(engine)
    finally:
        await engine.dispose()


async def keep_subscribers(settings: Settings, subscribers: Sequence[Subscriber]) -> None:
    """Replace all subscribers in the notification database."""
    async with open_ledger(settings) as ledger:
        await ledger.keep(subscribers)


def _add_columns(connection: Connection) -> None:
    """Add the columns that tables of an older version lack; all of them are nullable."""
    inspector = inspect(connection)
    for table in Table.metadata.sorted_tables:
        known = {column["name"] for column in inspector.get_columns(table.name)}
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
    """Replace each subscriber with `domains` by the recipients that jobs have named."""
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
            "the subscribers were stored by another version of Prefecture: run `prefecture apply`"
        ) from error


def _delivery_id(event: JobEnd, subscriber: str) -> UUID:
    revision = "" if event.revision == 1 else f":{event.revision}"
    return uuid5(event.job, f"{subscriber}{revision}")


def _in_parts(jobs: Iterable[UUID]) -> Iterator[list[UUID]]:
    listed = list(jobs)
    return (listed[start : start + _MANY] for start in range(0, len(listed), _MANY))
