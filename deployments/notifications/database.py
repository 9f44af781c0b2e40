"""The engine of the notification database: SQLite in the home, or PostgreSQL for several hosts."""

from urllib.parse import urlsplit

from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.schema import CreateSchema

from tasks.errors import OperatorError
from tasks.history.sqlite import lock_when_beginning
from tasks.settings import Settings, make_home, make_private_database

_FILE = "prefecture.db"
_BUSY = 30.0  # seconds to wait for another writer
_CONNECT = 5.0  # seconds for a connection to PostgreSQL
_SCHEMA = "prefecture"
_WRITERS = 0x70726566  # PostgreSQL's advisory lock of all transactions


def make_engine(settings: Settings) -> AsyncEngine:
    """The engine of the notification database; the file of SQLite is made where there is none.

    A transaction that has begun is the only one. Raises OperatorError for an address that cannot be
    used.
    """
    if settings.notifications_url is None:
        make_home(settings.home)
        make_private_database(settings.home / _FILE)
        engine = create_async_engine(
            URL.create("sqlite+aiosqlite", database=str(settings.home / _FILE)),
            connect_args={"timeout": _BUSY},
        )
        lock_when_beginning(engine.sync_engine)
        return engine
    options = {"search_path": _SCHEMA}
    engine = create_async_engine(
        address(settings),
        connect_args={"timeout": _CONNECT, "command_timeout": _BUSY, "server_settings": options},
        pool_pre_ping=True,
    )
    event.listen(engine.sync_engine, "begin", _take_turns)
    return engine


async def make_schema(engine: AsyncEngine) -> None:
    """Make the schema of the tables in PostgreSQL, where there is none."""
    if engine.dialect.name == "postgresql":
        async with engine.begin() as connection:
            await connection.execute(CreateSchema(_SCHEMA, if_not_exists=True))


def address(settings: Settings) -> URL:
    """The address of the notification database in PostgreSQL. Raises OperatorError."""
    assert settings.notifications_url
    given = settings.notifications_url.get_secret_value()
    # The message omits the address: it may hold a password.
    wrong = OperatorError(
        "PREFECTURE_NOTIFICATIONS_URL: use postgresql://user:password@host/name; without it the "
        "database is SQLite"
    )
    if urlsplit(given).scheme not in ("postgresql", "postgres"):
        raise wrong
    try:
        return make_url(given).set(drivername="postgresql+asyncpg")
    except ArgumentError:
        raise wrong from None


def _take_turns(connection: Connection) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITERS})")
