"""A lock that API servers share: one of them answers a request for scheduled runs at a time.

It is an advisory lock of PostgreSQL, held by a transaction on a connection of its own. PostgreSQL
ends the transaction of a server that dies, and of one that hangs or is cut off: no server keeps the
others waiting for longer than `LONGEST`. On SQLite there is one server, and nothing to share.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database import provide_database_interface
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from tasks.errors import in_short

LONGEST = 5.0
"""Seconds that a server waits for the lock, and for which one may keep it. Below the ten seconds
after which Prefect's server gives a statement up."""

_LOOKS = 0x6C6F6F6B  # PostgreSQL's advisory lock of the request that is answered
_LIMIT = f"{LONGEST * 1000:.0f}"  # in PostgreSQL's unit, milliseconds
_TAKE = text(
    f"SELECT set_config('lock_timeout', '{_LIMIT}', true),"
    f" set_config('idle_in_transaction_session_timeout', '{_LIMIT}', true)"
)
_WAIT = text(f"SELECT pg_advisory_xact_lock({_LOOKS})")
_NOT_IN_TIME = "55P03"  # PostgreSQL's code of the error after lock_timeout
_log = logging.getLogger(__name__)


@asynccontextmanager
async def lock_of_servers() -> AsyncGenerator[None]:
    """Hold the lock of the database of Prefect's server in this process, during the block."""
    database = provide_database_interface()
    if database.dialect.name == "postgresql":
        async with lock_of(await database.engine()):
            yield
    else:
        yield


@asynccontextmanager
async def lock_of(engine: AsyncEngine) -> AsyncGenerator[None]:
    """Hold the lock of a database in PostgreSQL during the block, without it where it is not free
    in time.

    Raises what SQLAlchemy and the driver raise where the database is away; not once the block has
    begun: what it has done stands.
    """
    connection = await engine.connect()
    try:
        await _take(connection)
        yield
    finally:
        await _release(connection)


async def _take(connection: AsyncConnection) -> None:
    try:
        await connection.execute(_TAKE)
        await connection.execute(_WAIT)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NOT_IN_TIME:
            raise
        _log.warning("the order of jobs is not sure: another server keeps the lock on the queues")


async def _release(connection: AsyncConnection) -> None:
    """End the transaction, and with it the lock."""
    try:
        await connection.rollback()
    except Exception as error:  # noqa: BLE001  # the driver fails in many ways without a connection
        # PostgreSQL has ended it, for it took too long.
        _log.debug("the lock on the queues was lost: %s", in_short(error))
        await connection.invalidate()
    finally:
        await connection.close()
