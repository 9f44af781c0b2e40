"""A statement that SQLite refuses holds up nobody else in the server's event loop."""

import asyncio
import gc
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from deployments.embedded.sqlite import address

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
    engine = create_async_engine(address(str(file)))
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
