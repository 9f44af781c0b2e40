"""Which notifier works: one for each notification database. Two would deliver everything twice.

With SQLite the lock is a file's in the home. With PostgreSQL it belongs to a connection, which the
server closes when the host at its other end is silent for some seconds: another notifier then takes
over. A notifier that has lost its connection stops, before that.
"""

import asyncio
import fcntl
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Never

from sqlalchemy import NullPool, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from deployments.notifications.database import address
from tasks.errors import in_short
from tasks.settings import Settings, make_home

_RETRY = 1.0  # seconds between two attempts to take the lock
_CHECK = 1.0  # seconds between two looks at the connection
_ANSWER = 3.0  # seconds for an answer, after which the connection counts as lost
_LEADER = 0x6E6F7469  # PostgreSQL's advisory lock of the notifier that works
# The server probes a connection that has been silent, and closes it 8 s after the last answer.
_PROBED = {
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "8000",
}
_log = logging.getLogger("deployments.notifications")

_WatchUntilLost = Callable[[], Coroutine[Any, Any, Never]]


class LeadershipLost(Exception):
    """Another notifier may work now: this one must stop."""


@asynccontextmanager
async def leading(settings: Settings) -> AsyncGenerator[_WatchUntilLost]:
    """Wait until no other notifier works, and hold the lock during the block.

    Yields a function that runs until the lock is lost, and raises LeadershipLost then.
    """
    if settings.notifications_url is None:
        async with _locked_file(settings.home):
            yield _never_lost
        return
    async with _locked_connection(settings) as connection:
        yield lambda: _watch(connection)


async def _never_lost() -> Never:
    await asyncio.Event().wait()
    raise AssertionError


@asynccontextmanager
async def _locked_file(home: Path) -> AsyncGenerator[None]:
    make_home(home)
    with (home / "notifier.lock").open("w") as file:
        logged = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not logged:
                    _log.info("another notifier has the home %s: waiting until it exits", home)
                logged = True
                await asyncio.sleep(_RETRY)
        yield


@asynccontextmanager
async def _locked_connection(settings: Settings) -> AsyncGenerator[AsyncConnection]:
    """A connection that holds the lock, once it is free."""
    engine = create_async_engine(
        address(settings),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",  # no transaction stays open
        connect_args={"timeout": _ANSWER, "command_timeout": _ANSWER, "server_settings": _PROBED},
    )
    connection = await _take(engine)
    try:
        yield connection
    finally:
        await connection.invalidate()  # closed without a word to the server, which may be away
        await connection.close()


async def _take(engine: AsyncEngine) -> AsyncConnection:
    """Wait for the lock. Returns the connection that holds it."""
    said = ""
    while True:
        reason = "another notifier has the database: waiting until it is gone"
        try:
            async with AsyncExitStack() as stack:
                connection = await stack.enter_async_context(engine.connect())
                if await connection.scalar(text(f"SELECT pg_try_advisory_lock({_LEADER})")):
                    stack.pop_all()
                    return connection
        except Exception as error:  # noqa: BLE001  # the driver fails in many ways while it connects
            reason = f"the notification database does not answer: {in_short(error)}"
        if reason != said:
            _log.info("%s", reason)
        said = reason
        await asyncio.sleep(_RETRY)


async def _watch(connection: AsyncConnection) -> Never:
    while True:
        try:
            await connection.execute(text("SELECT 1"))
        except (OSError, SQLAlchemyError) as error:
            raise LeadershipLost(in_short(error)) from error
        await asyncio.sleep(_CHECK)
