"""Answers the requests of workers for scheduled runs one after the other.

In PostgreSQL, Prefect's server locks the runs that a request finds until it has answered, and skips
those that another request has locked (`FOR UPDATE SKIP LOCKED`). Of two workers that ask at the
same time, one would find only runs in `low`, or none at all, though more wait in `high`.
"""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST = 30.0  # seconds that a request waits for others: the database of theirs may be away
_START, _END = "/work_pools/", "/get_scheduled_flow_runs"


class Looks:
    """ASGI middleware: the application handles one request for scheduled runs at a time."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; one for scheduled runs waits for its turn."""
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
