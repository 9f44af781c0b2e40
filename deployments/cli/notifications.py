"""Commands for the inbox and for notifications."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import aclosing, suppress

from deployments.cli.output.console import AsJson, say, say_json
from deployments.connection import become, connect, server_api
from deployments.local import programs
from deployments.notifications.inbox import follow_ends, line, read_ends
from deployments.notifications.schema import JobEnd
from tasks.errors import InvalidPayload
from tasks.settings import get_settings

_Show = Callable[[JobEnd], None]


def inbox(*, follow: bool = False, limit: int = 20, json: AsJson = False) -> None:
    """Show the jobs that have ended, newest last.

    Example: `prefecture inbox --limit 50`

    Parameters
    ----------
    follow
        Continue, and show each job as it ends, until Ctrl-C.
    limit
        How many of the last jobs to show.
    json
        A line of JSON for each job: its final event.
    """
    if limit < 0:
        raise InvalidPayload(f"--limit {limit}: use 0 or more")
    show = _show_json if json else _show_line
    with suppress(KeyboardInterrupt):  # with which the user ends --follow
        asyncio.run(_follow(limit, show) if follow else _list(limit, show))


def notify() -> None:
    """Run the notifier, which notifies subscribers of each job that ends.

    Runs in the foreground, beside a server that `prefecture up` does not run; `up` starts a
    notifier itself.

    Example: `prefecture notify`
    """
    environment = programs.notifier_env(get_settings(), socket.gethostname(), server_api())
    become(programs.notifier(), environment)


def _show_line(end: JobEnd) -> None:
    say(line(end))


def _show_json(end: JobEnd) -> None:
    say_json(end.model_dump(mode="json"))


async def _list(limit: int, show: _Show) -> None:
    async with connect() as client:
        for end in await read_ends(client, limit):
            show(end)


async def _follow(limit: int, show: _Show) -> None:
    async with connect() as client, aclosing(follow_ends(client, limit)) as ends:
        async for end in ends:
            show(end)
