"""Transactions of SQLite, for a database that several processes write."""

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection


def lock_when_beginning(engine: Engine) -> None:
    """Let each transaction of a SQLite engine take the lock of writers when it begins.

    Readers go on beside one writer (WAL). A connection with the execution option `read_only` takes
    no lock.
    """
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)


def _prepare(connection: DBAPIConnection, _: object) -> None:
    # By default the driver begins a transaction only at the first write: earlier reads could be
    # out of date by then.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql("BEGIN" if options.get("read_only") else "BEGIN IMMEDIATE")
