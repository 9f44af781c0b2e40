"""Answers the requests of workers for scheduled runs one after the other.

In PostgreSQL, Prefect's server locks the runs that a request finds until it has answered, and skips
those that another request has locked (`FOR UPDATE SKIP LOCKED`). Of two workers that ask at the
same time, one would find only runs in `low`, or none at all, though more wait in `high`.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST = 30.0  # seconds that a request waits for others: the database of theirs may be away
_START, _END = "/work_pools/", "/get_scheduled_flow_runs"


class Looks:
    """ASGI middleware: the application handles one request for scheduled runs at a time.

    `lock`: held meanwhile, for the servers that share a database.
    """

    def __init__(
        self,
        app: ASGIApp,
        lock: Callable[[], AbstractAsyncContextManager[None]] = nullcontext,
    ) -> None:
        self._app = app
        self._lock = lock
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one for scheduled runs waits for its turn."""
        path = str(scope.get("path", "")) if scope["type"] == "http" else ""
        if not (_START in path and path.endswith(_END)):
            return await self._app(scope, receive, send)
        async with AsyncExitStack() as turn:
            if await self._takes_turn():
                turn.callback(self._turn.release)
                # The requests of this server wait for it, so that it asks for one lock at a time.
                await turn.enter_async_context(self._lock())

            async def send_after_turn(message: Message) -> None:
                # The transaction is over; a client that reads slowly must not hold the turn.
                await turn.aclose()
                await send(message)

            await self._app(scope, receive, send_after_turn)

    async def _takes_turn(self) -> bool:
        try:
            await asyncio.wait_for(self._turn.acquire(), _LONGEST)
        except TimeoutError:
            return False
        return True
