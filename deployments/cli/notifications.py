"""Commands for the inbox and for notifications."""

import asyncio
import socket
from contextlib import aclosing, suppress

from deployments.cli.output.console import AsJson, say, say_json
from deployments.client.opening import open_jobs
from tasks.errors import InvalidPayload
from tasks.settings import get_settings


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

    async def show() -> None:
        async with open_jobs() as jobs, aclosing(jobs.ends(limit, follow=follow)) as ends:
            async for end in ends:
                if json:
                    say_json(dict(end.as_json))
                else:
                    say(end.line)

    with suppress(KeyboardInterrupt):  # with which the user ends --follow
        asyncio.run(show())


def notify() -> None:
    """Run the notifier, which notifies subscribers of each job that ends.

    Runs in the foreground, beside a server that `prefecture up` does not run; `up` starts a
    notifier itself.

    Example: `prefecture notify`
    """
    # Imported here: `inbox` does not need what starts programs.
    from deployments.connection import become, server_api
    from deployments.local import programs

    environment = programs.notifier_env(get_settings(), socket.gethostname(), server_api())
    become(programs.notifier(), environment)
