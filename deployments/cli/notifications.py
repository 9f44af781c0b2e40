"""Commands for whoever wants to hear what became of jobs."""

import asyncio
import os
import socket
from contextlib import aclosing, suppress

from deployments.cli.console import say
from deployments.connection import connect, server_api
from deployments.local import programs
from deployments.notifications.inbox import follow_ends, line, read_ends
from tasks.errors import InvalidPayload
from tasks.settings import get_settings


def inbox(*, follow: bool = False, limit: int = 20) -> None:
    """Show the jobs that have ended, newest last.

    Parameters
    ----------
    follow
        Go on, and show each job as it ends, until Ctrl-C.
    limit
        How many of the last jobs to show.
    """
    if limit < 0:
        raise InvalidPayload(f"--limit {limit}: use 0 or more")
    with suppress(KeyboardInterrupt):  # which is how following ends
        asyncio.run(_follow(limit) if follow else _list(limit))


def notify() -> None:
    """Notify subscribers of each job that ends; `prefecture up` does so by itself.

    Runs the notifier alone, in the foreground, for a server that `up` does not run.
    """
    argv = programs.notifier()
    os.execve(
        argv[0], argv, programs.notifier_env(get_settings(), socket.gethostname(), server_api())
    )


async def _list(limit: int) -> None:
    async with connect() as client:
        for end in await read_ends(client, limit):
            say(line(end))


async def _follow(limit: int) -> None:
    async with connect() as client, aclosing(follow_ends(client, limit)) as ends:
        async for end in ends:
            say(line(end))
