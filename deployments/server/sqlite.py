"""SQLite under the embedded server: writers take turns.

A transaction that reads first and writes later fails where another has written in between: SQLite
refuses it at once ("database is locked"), the server answers 503, and Prefect's client retries
after two seconds or more. Prefect begins such transactions DEFERRED (its source says that IMMEDIATE
is the cure, and uses it for some). Here all of them begin IMMEDIATE: a writer waits some
milliseconds for the one before it. Statements that only read begin no transaction.

In addition, an event that arrives twice is stored once. Prefect's client sends events again after a
broken connection. Prefect's writer skips events that are in the table, but not the second of two in
one batch, and writes an empty row where none are left: either way SQLite refuses the batch, and
after five attempts all events that wait with it are dropped. (On PostgreSQL Prefect writes ON
CONFLICT DO NOTHING.)
"""

import sqlite3
from typing import Any

from sqlalchemy import URL, CreateEnginePlugin

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
    """SQLAlchemy plugin: writers take turns, and an event is stored once."""

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        kwargs["connect_args"] = {**kwargs.get("connect_args", {}), "factory": _Connection}

    def update_url(self, url: URL) -> URL:
        """The database URL without the plugin's name."""
        return url.difference_update_query(["plugin"])
