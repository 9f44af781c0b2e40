"""Commands for the run history."""

import socket
from typing import Any

from deployments.cli.output.console import AsJson, out, say_json
from deployments.cli.where import moment
from deployments.connection import become, server_api
from deployments.local import programs
from tasks.contracts import PLATFORM_POOL, Queue
from tasks.settings import get_settings


def stats(
    *,
    since: str = "24h",
    task: str | None = None,
    queue: Queue | None = None,
    json: AsJson = False,
) -> None:
    """Show the outcomes of jobs, how long they waited and ran, and the backlog.

    Reads only the database of the run history: it works without the server.

    Example: `prefecture stats --since 7d --task find-primes`

    Parameters
    ----------
    since
        How far back, in whole hours: 90m, 24h, 7d, 4w; or a date such as 2026-11-01, in UTC.
    task
        Only this compute task.
    queue
        Only this queue.
    json
        As JSON: times in UTC, durations in seconds.
    """
    # Imported here: polars would slow down every other command.
    from deployments.stats import as_json, check_task, stats_tables
    from tasks.history.database import open_history
    from tasks.history.queries import Query, ask, known_tasks

    query = Query(moment(since, "--since"), task, queue)
    with open_history(get_settings()) as history, history.reading() as connection:
        if task is not None:
            check_task(task, known_tasks(connection))
        answer = ask(connection, query)
    if json:
        say_json(as_json(answer))
        return
    for part in stats_tables(answer):
        out.print(part)


def platform() -> None:
    """Run the worker of the platform's own flows, which keep the run history.

    Runs in the foreground, beside a server that `prefecture up` does not run; `up` starts this
    worker itself.

    Example: `prefecture platform`
    """
    environment: dict[str, Any] = programs.platform_env(
        get_settings(), f"{socket.gethostname()}/{PLATFORM_POOL}", server_api(), None
    )
    become(programs.bounded(programs.platform()), environment)
