"""Lets a job's requests through to the API: those that its own run needs, and no others.

A job has the token of its run (tasks/prefect_api/run_tokens.py), never the operator's password. A
request with a token that run_requests allows goes on as the operator's own. The rest is answered
401, for a token that is forged or expired, or 403, which is logged.
"""

import asyncio
import logging
import time
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar
from uuid import UUID

from prefect.server import models
from prefect.server.database import provide_database_interface
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from deployments.server.run_requests import Request, Run, is_allowed, is_own_event
from deployments.serving.admission import replayed
from tasks.prefect_api import run_tokens

_T = TypeVar("_T")
AFTER_THE_END = timedelta(minutes=1)
"""How long a token is good after its run has ended: for the last lines of its log."""
_KNOWN_FOR = 5.0  # seconds between two reads of a run
_MOST_KNOWN = 4096  # runs
_API = "/api"
_EVENTS = "/events/in"
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1
_log = logging.getLogger(__name__)


class JobPlane:
    """ASGI middleware: checks the requests that come with the token of a run.

    `password`: the server's own, as `user:password`. It expects the whole body of a request in one
    message.
    """

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._password = password
        self._own = b"Basic " + b64encode(password.encode())
        self._runs = _Runs()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, as the operator's, what is allowed; refuse what is not."""
        match scope["type"]:
            case "http":
                await self._handle(scope, receive, _announcing(send))
            case "websocket":
                await self._serve(scope, receive, send)
            case _:
                await self._app(scope, receive, send)

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = _credentials(scope)
        if not run_tokens.is_token(given):
            return await self._app(scope, receive, send)
        run = run_tokens.run_of(given, self._password)
        if run is None:
            return await _refusal(_UNAUTHORIZED, "Unauthorized")(scope, receive, send)
        body = (await receive()).get("body", b"")
        if not await self._may(run, scope, body):
            asked = f"{scope['method']} {scope['path']}"
            _log.warning("run %s may not: %s", run, asked)
            reason = f"the token of a run does not allow {asked}"
            return await _refusal(_FORBIDDEN, reason)(scope, receive, send)
        headers = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
        allowed = {**scope, "headers": [*headers, (b"authorization", self._own)]}
        await self._app(allowed, replayed(body, receive), send)

    async def _may(self, id: UUID, scope: Scope, body: bytes) -> bool:
        run = await self._runs.read(id)
        if run is None:
            return False
        if not str(scope["path"]).startswith(f"{_API}/"):
            return False
        path = str(scope["path"]).removeprefix(_API)
        asked = Request(scope["method"], path, scope["query_string"].decode("latin-1"), body)
        try:
            return await is_allowed(run, asked, self._runs)
        except ValueError:
            return False  # not what the API takes

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a websocket. A job may send events of its own by one, and hear nothing."""
        socket = _Socket(self._password, receive, send, scope["path"] == _API + _EVENTS, self._runs)
        await self._app(scope, socket.receive, send)


class _Socket:
    """A websocket whose first message may have a token."""

    def __init__(
        self, password: str, receive: Receive, send: Send, for_events: bool, runs: "_Runs"
    ) -> None:
        self._password = password
        self._receive = receive
        self._send = send
        self._for_events = for_events
        self._runs = runs
        self._is_first = True
        self._run: UUID | None = None

    async def receive(self) -> Message:
        """The next message, with the operator's password in place of a token."""
        while True:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return message
            if self._is_first:
                self._is_first = False
                return await self._authenticated(message)
            text = message.get("text") or ""
            if self._run is None or await is_own_event(self._run, text, self._runs):
                return message
            _log.debug("run %s may not send this event: %s", self._run, message.get("text"))

    async def _authenticated(self, message: Message) -> Message:
        try:
            sent = _Authentication.model_validate_json(message.get("text") or "")
        except ValueError:
            return message
        if not run_tokens.is_token(sent.token):
            return message
        self._run = run_tokens.run_of(sent.token, self._password)
        if self._run is None or not self._for_events or await self._runs.read(self._run) is None:
            refused = WebSocketClose(_POLICY_VIOLATION, "the token of a run does not allow this")
            await refused({"type": "websocket"}, self._receive, self._send)
            return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION}
        own = sent.model_copy(update={"token": self._password})
        return {"type": "websocket.receive", "text": own.model_dump_json()}


class _Authentication(BaseModel):
    type: Literal["auth"]
    token: str


class _Runs:
    """The flow runs that have tokens, and what else of the database a rule asks for."""

    def __init__(self) -> None:
        self._known: OrderedDict[UUID, tuple[float, Run | None]] = OrderedDict()
        self._reading = asyncio.Lock()

    async def read(self, id: UUID) -> Run | None:
        """A run that has not ended, or has just ended; None for any other."""
        async with self._reading:
            at, run = self._known.get(id, (-_KNOWN_FOR, None))
            if time.monotonic() - at < _KNOWN_FOR:
                return run
            run = await self._read(id)
            self._known[id] = (time.monotonic(), run)
            self._known.move_to_end(id)
            while len(self._known) > _MOST_KNOWN:
                self._known.popitem(last=False)
            return run

    async def owner_of_artifact(self, id: UUID) -> UUID | None:
        """See Lookup."""
        found = await _row(models.artifacts.read_artifact, id)
        return found and found.flow_run_id

    async def key_of_run(self, id: UUID) -> str | None:
        """See Lookup."""
        found = await _row(models.flow_runs.read_flow_run, id)
        return found and found.idempotency_key

    async def run_of_task_run(self, id: UUID) -> UUID | None:
        """See Lookup."""
        found = await _row(models.task_runs.read_task_run, id)
        return found and found.flow_run_id

    async def name_of_block(self, id: UUID) -> str | None:
        """See Lookup."""
        found = await _row(models.block_documents.read_block_document_by_id, id)
        return found and found.name

    async def deployment_named(self, name: str) -> UUID | None:
        """See Lookup."""
        flow, _, own = name.partition("/")
        async with provide_database_interface().session_context() as session:
            found = await models.deployments.read_deployment_by_name(session, own, flow)
            return found and found.id

    async def _read(self, id: UUID) -> Run | None:
        async with provide_database_interface().session_context() as session:
            found = await models.flow_runs.read_flow_run(session, id)
            if found is None or _has_ended(found.end_time):
                return None
            queue = found.work_queue_id and await models.workers.read_work_queue(
                session, found.work_queue_id
            )
            pool = queue and await models.workers.read_work_pool(session, queue.work_pool_id)
            return Run(
                id=found.id,
                flow=found.flow_id,
                deployment=found.deployment_id,
                queue=found.work_queue_name,
                queue_id=found.work_queue_id,
                pool=pool.name if pool else None,
                labels=found.labels or {},
                parameters=found.parameters or {},
                job_variables=found.job_variables or {},
                credentials=_credentials_block(pool.base_job_template if pool else {}),
            )


async def _row(read: Callable[[AsyncSession, UUID], Awaitable[_T | None]], id: UUID) -> _T | None:
    """What one of Prefect's functions reads by an id."""
    async with provide_database_interface().session_context() as session:
        return await read(session, id)


def _credentials_block(template: Mapping[str, Any]) -> str | None:
    """The block that a pool's jobs find in their environment: see job_environment."""
    return template.get("job_configuration", {}).get("env", {}).get("PREFECTURE_S3_CREDENTIALS")


def _has_ended(end: datetime | None) -> bool:
    return end is not None and datetime.now(UTC) - end > AFTER_THE_END


def _credentials(scope: Scope) -> str:
    """User and password of a request, as `user:password`; empty where there are none."""
    header = dict(scope["headers"]).get(b"authorization", b"")
    scheme, _, given = header.partition(b" ")
    if scheme.lower() != b"basic":
        return ""
    try:
        return b64decode(given).decode()
    except (NotBase64, UnicodeDecodeError):
        return ""


def _announcing(send: Send) -> Send:
    """Say in each answer that this server takes tokens."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            header = (run_tokens.HEADER.encode(), b"1")
            message = {**message, "headers": [*message.get("headers", []), header]}
        await send(message)

    return send_with_header


def _refusal(status: int, reason: str) -> Response:
    return JSONResponse({"exception_message": reason}, status)
