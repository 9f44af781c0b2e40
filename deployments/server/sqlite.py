"""SQLite under the embedded server: writers take turns.

A transaction that reads first and writes later cannot become a writer where another has written in
between: SQLite refuses it at once ("database is locked"), the server answers 503, and Prefect's
client asks again after two seconds and more. Prefect begins such transactions DEFERRED (and says in
its source that IMMEDIATE is the cure, which it uses for some). Here all of them begin IMMEDIATE: a
writer waits for the one before it, some milliseconds. What only reads begins no transaction at all.

And an event that comes twice is kept once. Any client of Prefect's may send one again: its own does
after a connection that broke. Prefect's writer leaves out what is in the table, but not the second
of two in one batch, and writes an empty row where nothing is left: either way SQLite refuses the
batch, and after five tries all events that wait with it are dropped. (On PostgreSQL Prefect writes
ON CONFLICT DO NOTHING.)
"""

import sqlite3
from typing import Any

from sqlalchemy import URL, CreateEnginePlugin

PLUGIN = "prefecture"
"""The name in the address of the database, and of the entry point in pyproject.toml."""

_BEGIN, _BEGIN_TO_WRITE = "BEGIN DEFERRED", "BEGIN IMMEDIATE"
_EVENTS, _EVENTS_ONCE = "INSERT INTO events ", "INSERT OR IGNORE INTO events "


class _Cursor(sqlite3.Cursor):
    def execute(self, *given: Any) -> "_Cursor":
        if given[0] == _BEGIN:
            given = (_BEGIN_TO_WRITE, *given[1:])
        elif given[0].startswith(_EVENTS):
            given = (_EVENTS_ONCE + given[0].removeprefix(_EVENTS), *given[1:])
        super().execute(*given)
        return self


class _Connection(sqlite3.Connection):
    def cursor(self, factory: Any = _Cursor) -> Any:
        return super().cursor(factory)


class TakesTurns(CreateEnginePlugin):
    """Gives an engine connections whose transactions take turns, and that keep an event once."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        kwargs["connect_args"] = {**kwargs.get("connect_args", {}), "factory": _Connection}

    def update_url(self, url: URL) -> URL:
        """The address without what names the plugin."""
        return url.difference_update_query(["plugin"])


def address(file: str) -> str:
    """The address of a database for Prefect's server, with the plugin in it."""
    return f"sqlite+aiosqlite:///{file}?plugin={PLUGIN}"
