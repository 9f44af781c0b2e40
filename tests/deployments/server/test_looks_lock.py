"""The lock that API servers on one PostgreSQL share: one has it, and none keeps it for long."""

import asyncio
from collections.abc import AsyncGenerator, Generator

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from deployments.server.looks_lock import lock_of
from tests.support.platform import PATIENCE, wait_until
from tests.tasks.history.postgres import new_database, postgres_server

pytestmark = pytest.mark.thorough
HOLDERS = "SELECT pid, objid FROM pg_locks WHERE locktype = 'advisory' AND granted"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with postgres_server(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest.fixture
def address(server: str) -> str:
    return f"{server}{new_database(server)}"


@pytest_asyncio.fixture
async def engine(address: str) -> AsyncGenerator[AsyncEngine]:
    """The connections of an API server, two of them."""
    url = address.replace(":", "+asyncpg:", 1)
    engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=PATIENCE)
    yield engine
    await engine.dispose()


@pytest.fixture
def watcher(address: str) -> Generator[psycopg.Connection]:
    with psycopg.connect(address, autocommit=True) as watcher:
        yield watcher


async def test_one_at_a_time(engine: AsyncEngine, watcher: psycopg.Connection) -> None:
    now, most = 0, 0

    async def look() -> None:
        nonlocal now, most
        async with lock_of(engine):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            raise RuntimeError  # of the request: the lock is free all the same

    found = await asyncio.gather(*(look() for _ in range(6)), return_exceptions=True)
    assert [type(one) for one in found] == [RuntimeError] * 6
    assert most == 1
    assert watcher.execute(HOLDERS).fetchall() == []


async def test_a_server_goes_on_without_it(
    engine: AsyncEngine, watcher: psycopg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    async with lock_of(engine):
        ((_, key),) = watcher.execute(HOLDERS).fetchall()
    watcher.execute("SELECT pg_advisory_lock(%s)", [key])
    async with lock_of(engine):
        assert "another server keeps the lock" in caplog.text


async def test_it_is_taken_from_a_server_that_hangs(
    engine: AsyncEngine, watcher: psycopg.Connection
) -> None:
    async with lock_of(engine):
        ((first, _),) = watcher.execute(HOLDERS).fetchall()
        async with lock_of(engine):

            def is_taken() -> bool:
                return first not in [pid for pid, _ in watcher.execute(HOLDERS).fetchall()]

            await asyncio.to_thread(wait_until, is_taken, what="PostgreSQL takes it from the first")
    async with engine.connect(), engine.connect():
        """Neither connection is lost to the server."""
