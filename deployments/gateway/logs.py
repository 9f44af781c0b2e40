"""Routes for the logs of jobs, whole or followed, never held in memory."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from starlette.responses import Response

from deployments.gateway.events.routes import Cursor
from deployments.gateway.events.streams import PING, Places, StreamResponse
from deployments.gateway.jobs import Client, Reader, find_visible
from deployments.jobs.logs import check_position, read_logs
from deployments.jobs.records import Line
from tasks.errors import PrefectureError
from tasks.prefect_api.pages import PAGE

MOST_TAIL = 10_000
"""Lines that `tail` may ask for."""
MOST_FOLLOWED = 100
"""Logs that are followed at once, of all users: each is a query to the server every few seconds."""
_OK = 200

router = APIRouter()


@router.get("/jobs/{job}/logs", response_class=StreamResponse, status_code=_OK)
async def logs(
    request: Request,
    caller: Reader,
    client: Client,
    cursor: Cursor,
    job: UUID,
    tail: Annotated[
        int | None, Query(ge=1, le=MOST_TAIL, description="The last lines alone, so many.")
    ] = None,
    follow: Annotated[
        bool, Query(description="Send the lines as server-sent events, until the job has ended.")
    ] = False,
) -> Response:
    """The log of a job in all of its attempts, the oldest line first: a list of `at`, `attempt`,
    `level` and `message`; with `follow`, each line as an event `line` until the job has ended."""
    await find_visible(client, caller, job)
    check_position(cursor or "")
    lines = _Lines(read_logs(job, follow=follow, tail=None if cursor else tail, after=cursor or ""))
    if not follow:
        # Errors are answered before the response begins: it is read up to its first line.
        return StreamResponse(_as_list(await lines.next(), lines), lines.stop, "application/json")
    places: Places = request.app.state.followed_logs
    user = caller.token.user
    places.admit(user)
    places.take(user)

    def stop() -> None:
        lines.stop()
        places.free(user)

    return StreamResponse(_as_events(lines, places.closing), stop)


class _Lines:
    """Reads a log in one task, which the settings of its client are of, a page ahead."""

    def __init__(self, log: AsyncGenerator[Line]) -> None:
        self._lines: asyncio.Queue[Line | Exception | None] = asyncio.Queue(PAGE)
        self._task = asyncio.create_task(self._read(log))

    def stop(self) -> None:
        """Read no more."""
        self._task.cancel()

    async def next(self) -> Line | None:
        """The next line; None at the end. Raises what the reading has raised."""
        line = await self._lines.get()
        if isinstance(line, Exception):
            raise line
        return line

    async def _read(self, log: AsyncGenerator[Line]) -> None:
        try:
            async with aclosing(log):
                async for line in log:
                    await self._lines.put(line)
            await self._lines.put(None)
        except Exception as error:  # noqa: BLE001  # it is raised to the reader
            await self._lines.put(error)


async def _as_list(line: Line | None, lines: _Lines) -> AsyncGenerator[bytes]:
    start = b"["
    while line is not None:
        yield start + json.dumps(line.as_json()).encode()
        line, start = await lines.next(), b","
    yield b"[]" if start == b"[" else b"]"


async def _as_events(lines: _Lines, closing: asyncio.Event) -> AsyncGenerator[bytes]:
    closed = asyncio.create_task(closing.wait())
    following = asyncio.create_task(lines.next())
    try:
        yield KEEPALIVE_COMMENT  # the client knows that it is connected before there is a line
        while True:
            await asyncio.wait(
                {following, closed}, timeout=PING, return_when=asyncio.FIRST_COMPLETED
            )
            if closed.done():
                return
            if not following.done():
                yield KEEPALIVE_COMMENT
                continue
            line = following.result()
            if line is None:
                return  # the job has ended
            following = asyncio.create_task(lines.next())
            yield _event(line)
    except PrefectureError:
        return  # the job is deleted; or the server is away for too long
    finally:
        for task in (closed, following):
            task.cancel()
        await asyncio.gather(closed, following, return_exceptions=True)


def _event(line: Line) -> bytes:
    data = json.dumps(line.as_json())
    return format_sse_event(event="line", data_str=data, id=line.position)
