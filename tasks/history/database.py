"""The database of the run history: opened, locked, and its schema seen to."""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tasks.errors import OperatorError, in_short
from tasks.history.schema import SCHEMAS
from tasks.settings import Settings

_BUSY = 30.0  # seconds to wait for another writer
_CONNECT = 10  # seconds for a database to answer
_LOCK = 0x70726566  # of PostgreSQL's and MySQL's named locks, ours
_DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
_FILE = "history.db"
_UPDATE = "update this Prefecture, or give it a database of its own by PREFECTURE_HISTORY_URL"


class History:
    """An open history. Any number of processes may have it open; one at a time writes."""

    def __init__(self, engine: Engine, place: str) -> None:
        self._engine = engine
        self._place = place

    @contextmanager
    def writing(self) -> Generator[Connection]:
        """A transaction that no other writer is in. Raises OperatorError where it cannot be had."""
        with self._told(), self._engine.begin() as connection:
            _alone(connection)
            yield connection

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A look at one moment. Raises OperatorError where there is nothing to look at."""
        with self._told(), self._engine.connect() as connection:
            connection = connection.execution_options(looks=True)
            self._check(connection)
            yield connection

    def migrate(self) -> None:
        """Make the tables, or bring them up to date. Raises OperatorError where they are newer."""
        with self._told(), self._engine.connect() as connection:
            found = _schema(connection.execution_options(looks=True))
        if found == SCHEMAS[-1]:
            return
        with self.writing() as connection:
            found = _schema(connection)
            if found == SCHEMAS[-1]:
                return  # another was first
            self._refuse_unknown(found)
            # Heavy, and wanted once in a database's life.
            from tasks.history.migrations.upgrade import upgrade

            upgrade(connection)

    def _check(self, connection: Connection) -> None:
        found = _schema(connection)
        if found is None:
            raise OperatorError(
                f"there is no run history in {self._place} yet: aggregate-history makes it in its "
                "first pass, a minute after `prefecture up`"
            )
        self._refuse_unknown(found)
        if found != SCHEMAS[-1]:
            raise OperatorError(
                f"the run history in {self._place} has the older schema {found}: the next pass of "
                "aggregate-history brings it up to date"
            )

    def _refuse_unknown(self, found: str | None) -> None:
        # Newer than this code; or of another program's tables, such as Prefect's own.
        if found is not None and found not in SCHEMAS:
            raise OperatorError(
                f"the run history in {self._place} has the schema {found}, and this code knows "
                f"{SCHEMAS[-1]} at most: {_UPDATE}"
            )

    @contextmanager
    def _told(self) -> Generator[None]:
        """What goes wrong with the database, in one line, and without the password in its URL."""
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
    """The history that the settings name. Nothing is asked of it yet."""
    url = _address(settings)
    if url.get_backend_name() == "sqlite" and url.database:
        settings.home.mkdir(parents=True, exist_ok=True)
    # MySQL's lock is of the connection, which must end with the transaction, and not go back into
    # a pool with the lock on it.
    pool = NullPool if url.get_backend_name() == "mysql" else None
    arguments = _connect_args(url)
    engine = create_engine(url, connect_args=arguments, pool_pre_ping=True, poolclass=pool)
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    try:
        yield History(engine, url.render_as_string(hide_password=True))
    finally:
        engine.dispose()


def _address(settings: Settings) -> URL:
    """Where the history is. Raises OperatorError where no such database is known."""
    if settings.history_url is None:
        return URL.create("sqlite", database=str(settings.home / _FILE))
    try:
        url = make_url(settings.history_url.get_secret_value())
    except ArgumentError:
        # Without the text: a password may be in it.
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
    # Both are UTC: a server's own time zone must not be read into a time without one.
    if url.get_backend_name() == "postgresql":
        return {"connect_timeout": _CONNECT, "options": "-c timezone=UTC"}
    return {"connect_timeout": _CONNECT, "init_command": "SET time_zone = '+00:00'"}


def _prepare(connection: DBAPIConnection, _: object) -> None:
    # The driver would begin a transaction at the first write alone: what was read before it could
    # be old by then.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if options.get("looks") else "BEGIN IMMEDIATE")


def _alone(connection: Connection) -> None:
    """Hold until the end of the transaction what every writer holds. SQLite does by itself."""
    match connection.dialect.name:
        case "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        case "mysql" | "mariadb":
            # Not of the transaction, as MySQL has none such: of the connection. It is the server's,
            # of all databases, and has 64 letters at most: hence the digest of the one's name.
            name = f"SHA1(CONCAT('prefecture-{_LOCK} ', DATABASE()))"
            got = connection.execute(text(f"SELECT GET_LOCK({name}, {int(_BUSY)})"))
            if got.scalar() != 1:
                raise OperatorError("another writes the run history, for too long: try again")
        case _:
            pass


def _schema(connection: Connection) -> str | None:
    """The schema that is there; None where there is none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _fault(error: DBAPIError) -> str:
    """What is wrong, and the cure, where it is one of the usual things."""
    said = " ".join(str(error.orig).split())[:200]
    if isinstance(error.orig, sqlite3.Error):
        if "malformed" in said or "not a database" in said:
            return (
                f"is corrupt ({said}): move the file away; the next pass makes a new one out of "
                "what Prefect still has, or put a copy of it back"
            )
        if "disk is full" in said or "disk I/O" in said:
            return f"cannot be written ({said}): free some space; the next pass catches up"
        if "locked" in said:
            return f"is being written by another for too long ({said}): the next pass catches up"
        return f"cannot be used ({said}): see to the file; the next pass catches up"
    if error.connection_invalidated or "connect" in said.lower():
        return (
            f"does not answer ({said}): start it, or see to PREFECTURE_HISTORY_URL; the next "
            "pass catches up"
        )
    return f"refuses ({said}): see to it; the next pass catches up"
