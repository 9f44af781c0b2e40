"""The database of the run history: connections, the lock of writers, migrations."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasks.errors import OperatorError, in_short
from tasks.history.schema import SCHEMAS
from tasks.history.sqlite import lock_when_beginning
from tasks.settings import Settings, make_home, make_private_database

_BUSY = 30.0  # seconds to wait for another writer
_CONNECT = 10  # seconds for a database to answer
_LOCK = 0x70726566  # identifies Prefecture's lock in PostgreSQL and MySQL
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_FILE = "history.db"
_UPDATE = "update this Prefecture, or give it a database of its own by PREFECTURE_HISTORY_URL"


class History:
    """An open run history. Any number of processes may open it; one at a time writes."""

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._place = place

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """Open an exclusive write transaction. Raises OperatorError where the database fails."""
        with self._operator_errors(), self._engine.begin() as connection:
            _lock_writers(connection)
            yield connection

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """Open a read transaction. Raises OperatorError where there is no up-to-date history."""
        with self._operator_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(read_only=True)
            self._check(connection)
            yield connection

    def migrate(self) -> None:
        """Create or migrate the tables. Raises OperatorError where their schema is newer."""
        with self._operator_errors(), self._engine.connect() as connection:
            found = _schema(connection.execution_options(read_only=True))
        if found == SCHEMAS[-1]:
            return
        with self.writing() as connection:
            found = _schema(connection)
            if found == SCHEMAS[-1]:
                return  # another process was first
            self._refuse_unknown(found)
            # A slow import, needed once for each database.
            from tasks.history.migrations.upgrade import upgrade

            upgrade(connection)

    def _check(self, connection: Connection) -> None:
        found = _schema(connection)
        if found is None:
            raise OperatorError(
                f"there is no run history in {self._place} yet: aggregate-history creates it in "
                "its first pass, a minute after `prefecture up`"
            )
        self._refuse_unknown(found)
        if found != SCHEMAS[-1]:
            raise OperatorError(
                f"the run history in {self._place} has the older schema {found}: the next pass of "
                "aggregate-history brings it up to date"
            )

    def _refuse_unknown(self, found: str | None) -> None:
        # Newer than this code, or the schema of another program, such as Prefect.
        if found is not None and found not in SCHEMAS:
            raise OperatorError(
                f"the run history in {self._place} has the schema {found}, and this code knows "
                f"{SCHEMAS[-1]} at most: {_UPDATE}"
            )

    @contextmanager
    def _operator_errors(self) -> Generator[None]:
        """Convert database errors to OperatorError: one line, without the password in the URL."""
        try:
            yield
        except DBAPIError as error:
            raise OperatorError(f"the run history in {self._place} {_fault(error)}") from error
        except SQLAlchemyError as error:
            raise OperatorError(
                f"the run history in {self._place} cannot be used: {in_short(error)}"
            ) from error


@contextmanager
def open_history(settings: Settings) -> Generator[History]:
    """Open the history that the settings name, without connecting yet."""
    url = _address(settings)
    if url.get_backend_name() == "sqlite" and url.database:
        make_home(settings.home)
    if settings.history_url is None:
        make_private_database(settings.home / _FILE)
    # MySQL's lock belongs to the connection: it must close after the transaction, and not return
    # to a pool with the lock.
    pool = NullPool if url.get_backend_name() == "mysql" else None
    arguments = _connect_args(url)
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, poolclass=pool)
    if url.get_backend_name() == "sqlite":
        lock_when_beginning(engine)
    try:
        yield History(engine, url.render_as_string(hide_password=True))
    finally:
        engine.dispose()


def _address(settings: Settings) -> URL:
    """Return the address of the database. Raises OperatorError where it is not supported."""
    if settings.history_url is None:
        return URL.create("sqlite", database=str(settings.home / _FILE))
    try:
        url = make_url(settings.history_url.get_secret_value())
    except ArgumentError:
        # The message omits the address: it may hold a password.
        raise OperatorError(
            "PREFECTURE_HISTORY_URL is no address of a database: write "
            "postgresql://user:password@host/name, or mysql://, or sqlite:////folder/file"
        ) from None
    backend = url.get_backend_name()
    if backend not in _DRIVERS:
        raise OperatorError(
            f"PREFECTURE_HISTORY_URL names {backend!r}: use postgresql, mysql or sqlite"
        )
    return url.set(drivername=_DRIVERS[backend])


def _connect_args(url: URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": _BUSY}
    # UTC in both: times are stored without a zone, and must not be read in the server's zone.
    if url.get_backend_name() == "postgresql":
        return {"connect_timeout": _CONNECT, "options": "-c timezone=UTC"}
    return {"connect_timeout": _CONNECT, "init_command": "SET time_zone = '+00:00'"}


def _lock_writers(connection: Connection) -> None:
    """Take the lock of writers until the end of the transaction. SQLite does this by itself."""
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        case "mysql" | "mariadb":
            # MySQL's named locks belong to the connection, and their names to all databases of the
            # server, with 64 characters at most: hence the digest of the database's name.
            name = f"SHA1(CONCAT('prefecture-{_LOCK} ', DATABASE()))"
            got = connection.execute(text(f"SELECT GET_LOCK({name}, {int(_BUSY)})"))
            if got.scalar() != 1:
                raise OperatorError("another process writes the run history for too long: retry")
        case _:
            pass


def _schema(connection: Connection) -> str | None:
    """Return the schema of the database; None where it has none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _fault(error: DBAPIError) -> str:
    """Describe a database error and its cure."""
    said = " ".join(str(error.orig).split())[:200]
    if isinstance(error.orig, sqlite3.Error):
        if "malformed" in said or "not a database" in said:
            return (
                f"is corrupt ({said}): move the file away; the next pass makes a new one from the "
                "runs that Prefect still has; or restore a backup"
            )
        if "disk is full" in said or "disk I/O" in said:
            return f"cannot be written ({said}): free some space; the next pass catches up"
        if "locked" in said:
            return f"is locked by another process for too long ({said}): the next pass catches up"
        return f"cannot be used ({said}): check the file; the next pass catches up"
    if error.connection_invalidated or "connect" in said.lower():
        return (
            f"does not answer ({said}): start it, or correct PREFECTURE_HISTORY_URL; the next "
            "pass catches up"
        )
    return f"refuses ({said}): correct the database; the next pass catches up"
