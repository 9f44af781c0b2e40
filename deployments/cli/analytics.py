"""Commands for whoever wants to know how it has been going."""

import json
import os
import re
import socket
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import Parameter

from deployments.cli.console import out, say
from deployments.connection import server_api
from deployments.local import programs
from tasks.contracts import PLATFORM_POOL, Queue
from tasks.errors import InvalidPayload
from tasks.settings import get_settings

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_Flag = Annotated[bool, Parameter(negative="")]


def stats(
    *,
    since: str = "24h",
    task: str | None = None,
    queue: Queue | None = None,
    json_: Annotated[_Flag, Parameter(name="--json")] = False,
) -> None:
    """Show what became of jobs, how long they waited and ran, and what waits now.

    Reads the history's database alone: the server may be away.

    Parameters
    ----------
    since
        How far back, in whole hours: 90m, 24h, 7d, 4w; or a date such as 2026-11-01, in UTC.
    task
        One compute task alone.
    queue
        One queue alone.
    json_
        As JSON, for machines: times in UTC, durations in seconds.
    """
    # Here, since polars would slow down every other command.
    from deployments.stats import as_json, stats_tables
    from tasks.history.database import open_history
    from tasks.history.queries import Query, ask

    query = Query(_moment(since), task, queue)
    with open_history(get_settings()) as history, history.reading() as connection:
        answer = ask(connection, query)
    if json_:
        say(json.dumps(as_json(answer)))
        return
    for part in stats_tables(answer):
        out.print(part)


def platform() -> None:
    """Run the platform's own flows, which keep the history; `prefecture up` does so by itself.

    Runs their worker alone, in the foreground, for a server that `up` does not run.
    """
    argv = programs.platform()
    environment: dict[str, Any] = programs.platform_env(
        get_settings(), f"{socket.gethostname()}/{PLATFORM_POOL}", server_api(), None
    )
    os.execve(argv[0], argv, environment)


def _moment(text: str) -> datetime:
    span = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text)
    if span:
        return datetime.now(UTC) - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidPayload(
            f"--since {text!r}: use a span such as 90m, 24h, 7d or 4w, or a date such as 2026-11-01"
        ) from None
    return at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)
