"""Answers 503 where the database or Redis is away, which every client of Prefect's retries.

Prefect's server answers 500 where Redis, or the port of PostgreSQL, does not answer. Its clients
take that for an error of their own: engines crash, workers exit. A state whose event cannot be sent
is not stored, so the request may be repeated.
"""

import logging

from asyncpg import (  # pyright: ignore[reportMissingTypeStubs]
    InterfaceError,
    PostgresConnectionError,
    TooManyConnectionsError,
)
from asyncpg.exceptions import OperatorInterventionError  # pyright: ignore[reportMissingTypeStubs]
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_UNAVAILABLE, _ERROR = 503, 500
_OUTAGES = (
    # Nothing listens, or the connection is lost; also timeouts.
    OSError,
    RedisError,
    DBAPIError,
    NoConnectionFree,
    # Raised as they are while a connection is made: the server starts or stops, for example.
    PostgresConnectionError,
    OperatorInterventionError,
    TooManyConnectionsError,
    InterfaceError,
)
_log = logging.getLogger(__name__)


class Outages:
    """ASGI middleware: answers 503 to a request that failed for want of the database or Redis."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, and what is answered, unless that is 500 for an outage."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        held: list[Message] = []
        has_answered = False

        async def send_or_hold(message: Message) -> None:
            nonlocal has_answered
            if held or (message["type"] == "http.response.start" and message["status"] == _ERROR):
                held.append(message)
            else:
                has_answered = True
                await send(message)

        try:
            await self._app(scope, receive, send_or_hold)
        except _OUTAGES as error:
            if has_answered:
                raise
            asked = f"{scope['method']} {scope['path']}"
            _log.warning("%s: answered 503: %s: %s", asked, type(error).__name__, error)
            # Without Retry-After: clients wait longer each time, two minutes in all.
            answer = JSONResponse({"exception_message": "Service Unavailable"}, _UNAVAILABLE)
            return await answer(scope, receive, send)
        except BaseException:
            await _send_all(held, send)
            raise
        await _send_all(held, send)


async def _send_all(held: list[Message], send: Send) -> None:
    for message in held:
        await send(message)
