"""SQLite under the embedded server: writers take turns, and a statement that fails holds up nobody.

A transaction that reads first and writes later cannot become a writer where another has written in
between: SQLite refuses it at once ("database is locked"), the server answers 503, and Prefect's
client asks again after two seconds and more. Prefect begins such transactions DEFERRED (and says in
its source that IMMEDIATE is the cure, which it uses for some). Here all of them begin IMMEDIATE: a
writer waits for the one before it, some milliseconds. What only reads begins no transaction at all.

A statement that SQLite refuses all the same leaves a cursor behind, which the exception's
traceback keeps alive until Python collects garbage. It does so in whatever the server's event loop
is at, and to let go of the cursor it waits for its connection, in which another statement may by
then be waiting for the lock: up to 60 s, Prefect's busy_timeout. Meanwhile nothing of the server
moves, whoever has the lock included. (Seen with Prefect 3.8.8, SQLAlchemy 2.0.58 and Python 3.11:
in cursor_dealloc, stmt_reset waits in sqlite3_reset. SQLAlchemy 2.1 closes such cursors, but
Prefect's scheduler does not run on it.) So a cursor is closed here where its statement fails, by
the thread that ran it.
"""

import sqlite3
from typing import Any

from sqlalchemy import URL, CreateEnginePlugin

PLUGIN = "prefecture"
"""The name in the address of the database, and of the entry point in pyproject.toml."""

_BEGIN, _BEGIN_TO_WRITE = "BEGIN DEFERRED", "BEGIN IMMEDIATE"


class _Cursor(sqlite3.Cursor):
    def execute(self, *given: Any) -> "_Cursor":
        if given[0] == _BEGIN:
            given = (_BEGIN_TO_WRITE, *given[1:])
        try:
            super().execute(*given)
        except BaseException:
            self.close()
            raise
        return self

    def executemany(self, *given: Any) -> "_Cursor":
        try:
            super().executemany(*given)
        except BaseException:
            self.close()
            raise
        return self


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


class TakesTurns(CreateEnginePlugin):
    """Gives an engine connections whose transactions take turns, and whose failed cursors close."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        kwargs["connect_args"] = {**kwargs.get("connect_args", {}), "factory": _Connection}

    def update_url(self, url: URL) -> URL:
        """The address without what names the plugin."""
        return url.difference_update_query(["plugin"])


def address(file: str) -> str:
    """The address of a database for Prefect's server, with the plugin in it."""
    return f"sqlite+aiosqlite:///{file}?plugin={PLUGIN}"
