"""Lets workers look for runs one after the other.

Prefect's server locks what a look finds in PostgreSQL until it is answered, and leaves out of a
look what another has locked (`FOR UPDATE SKIP LOCKED`). Of two workers that look at the same time
one would find the runs in `low` alone, or none at all, though there are more in `high`.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST = 30.0  # seconds that a look waits for others: they wait for a database that is away
_START, _END = "/work_pools/", "/get_scheduled_flow_runs"


class Looks:
    """ASGI middleware: the application handles one request for scheduled runs at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, one for scheduled runs in its turn."""
        path = str(scope.get("path", "")) if scope["type"] == "http" else ""
        if not (_START in path and path.endswith(_END)):
            return await self._app(scope, receive, send)
        has_turn = await self._takes_turn()

        def end_turn() -> None:
            nonlocal has_turn
            if has_turn:
                has_turn = False
                self._turn.release()

        async def send_after_turn(message: Message) -> None:
            end_turn()  # the transaction is over; a client that reads slowly must not hold it
            await send(message)

        try:
            await self._app(scope, receive, send_after_turn)
        finally:
            end_turn()

    async def _takes_turn(self) -> bool:
        try:
            await asyncio.wait_for(self._turn.acquire(), _LONGEST)
        except TimeoutError:
            return False
        return True
