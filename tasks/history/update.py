"""One pass of the run history: read attempts, count, read the backlog, delete old rows."""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
from prefect.client.orchestration import PrefectClient

from tasks.errors import ServerUnavailable, in_short
from tasks.history import store
from tasks.history.backlog import read_backlog
from tasks.history.database import open_history
from tasks.history.extract import Extract, Pass
from tasks.history.rows import RowReader
from tasks.settings import Settings
from tasks.storage.results.opening import open_results

_AT_MOST = 45.0  # seconds of reading: the next pass is a minute later


async def update_history(client: PrefectClient, settings: Settings) -> Pass:
    """Bring the history up to date.

    Old attempts are deleted only when the pass has read all that ended. Raises OperatorError where
    the database fails, ServerUnavailable where the Prefect server does.
    """
    reader = RowReader(client, open_results(settings))
    with open_history(settings) as history:
        await asyncio.to_thread(history.migrate)
        extract = Extract(client, history, reader, _AT_MOST)
        try:
            done = await extract.run()
            backlog = await read_backlog(client)
        except httpx.HTTPError as error:
            raise ServerUnavailable(
                f"the Prefect server does not answer or failed, and the next pass goes on: "
                f"{in_short(error)}"
            ) from error

        def finish() -> int:
            with history.writing() as connection:
                store.put_backlog(connection, backlog)
                if not done.all:
                    return 0
                old = datetime.now(UTC) - timedelta(days=settings.history_days)
                return store.forget(connection, old)

        done.forgotten = await asyncio.to_thread(finish)
    return done
