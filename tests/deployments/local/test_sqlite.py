"""Writers take turns, and a statement that SQLite refuses holds up nobody else in the server."""

import asyncio
import gc
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deployments.server.environment import sqlite_url
from tests.support.platform import Platform, wait_until

INSERT = "INSERT INTO notes VALUES ('written')"


async def refused(connection: AsyncConnection) -> OperationalError:
    """The error of a statement that does not get the lock."""
    await connection.execute(text("PRAGMA busy_timeout = 0"))
    with pytest.raises(OperationalError, match="locked") as error:
        await connection.execute(text(INSERT))
    await connection.rollback()
    return error.value


async def test_garbage_of_a_refused_statement_waits_for_no_other(tmp_path: Path) -> None:
    file = tmp_path / "prefect.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE notes (note TEXT)")
    engine = create_async_engine(sqlite_url(str(file)))
    try:
        async with engine.connect() as connection:
            other.execute("BEGIN IMMEDIATE")
            errors = [await refused(connection)]
            await connection.execute(text("PRAGMA busy_timeout = 5000"))
            waiting = asyncio.ensure_future(connection.execute(text(INSERT)))
            await asyncio.wait({waiting}, timeout=0.5)  # until it waits for the lock, in its thread
            # Whoever has the lock can let it go only after this, as in the server.
            errors.clear()
            gc.collect()
            other.execute("ROLLBACK")
            await waiting
            await connection.commit()
    finally:
        await engine.dispose()
    assert other.execute("SELECT note FROM notes").fetchall() == [("written",)]
    other.close()


async def test_transactions_that_read_first_and_write_later_take_turns(tmp_path: Path) -> None:
    # As Prefect has them: it begins each itself, and DEFERRED, where it means to write.
    engine = create_async_engine(sqlite_url(str(tmp_path / "prefect.db")))
    begun, written = list[int](), asyncio.Event()

    async def count_and_add(number: int) -> None:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA busy_timeout = 5000")
            await connection.exec_driver_sql("BEGIN DEFERRED")
            begun.append(number)
            count = (await connection.execute(text("SELECT count(*) FROM notes"))).scalar_one()
            if len(begun) == 1:
                # The other has its chance to read the same, and then could not write any more.
                await asyncio.wait({asyncio.create_task(written.wait())}, timeout=0.3)
            await connection.execute(text(f"INSERT INTO notes VALUES ({count})"))
            await connection.exec_driver_sql("COMMIT")
            written.set()

    try:
        async with engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            await connection.exec_driver_sql("CREATE TABLE notes (note INTEGER)")
            await connection.commit()
        await asyncio.gather(*map(count_and_add, range(2)))
        async with engine.connect() as connection:
            notes = (await connection.execute(text("SELECT note FROM notes"))).scalars().all()
    finally:
        await engine.dispose()
    assert notes == [0, 1]


async def test_an_event_that_comes_twice_is_kept_once_and_costs_no_other(
    process_platform: Platform,
) -> None:
    def event(id: UUID) -> dict[str, Any]:
        resource = {"prefect.resource.id": f"prefecture.test.{id}"}
        now = datetime.now(UTC).isoformat()
        return {"id": str(id), "occurred": now, "event": "twice", "resource": resource}

    def kept() -> list[str]:
        wanted = {"filter": {"event": {"name": ["twice"]}}}
        page = process_platform.rest("POST", "/events/filter", wanted).json()
        return sorted(found["id"] for found in page["events"])

    def send(*ids: UUID) -> None:
        process_platform.rest("POST", "/events", [event(id) for id in ids]).raise_for_status()

    first, second, third = (uuid4() for _ in range(3))
    send(first, first, second)
    await asyncio.to_thread(wait_until, lambda: kept() == sorted(map(str, (first, second))))
    send(first)  # nothing of this batch is left
    send(second, third, third)
    await asyncio.to_thread(wait_until, lambda: len(kept()) == 3)
