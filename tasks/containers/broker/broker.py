"""The requests that a run may send: about the containers of its own job, and images to run.

Each rule is a method, a pattern of paths, and a function. A request without a rule is refused, and
one about another job's things. Labels, which the broker sets, say which job a thing belongs to.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.containers.broker import http
from tasks.containers.broker.asked import Asked
from tasks.containers.broker.containers import ID, Containers
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.flows import Flows
from tasks.containers.broker.http import Refused, Request
from tasks.containers.broker.images import Images
from tasks.containers.broker.runs import Run, Runs
from tasks.containers.broker.templates import NETWORK
from tasks.contracts import RUN_HEADER

_FIRST = ("GET", "/version")  # Docker's client asks it before it can be told of a token
_VERSION_KNOWN_FOR = 5.0  # seconds
_MOST_REQUESTS = 256  # of one run, at a time
_MOST_STRANGERS = 256  # connections that have not sent the head of a request yet
_MOST_SAID = 120  # refusals that the log shows, a minute
_MINUTE = 60.0
_UNREAD = 30.0  # seconds in which a client reads the rest of an answer, where no run counts it
_GONE = 404
_log = logging.getLogger(__name__)


class Broker:
    """Answers the requests of runs.

    `runs`: who may ask; `flows`: the flows' own containers; `folder`: for contexts of builds.
    """

    def __init__(self, engine: Engine, runs: Runs, flows: Flows, folder: Path) -> None:
        self._engine = engine
        self._runs = runs
        self.images = Images(engine, self._is_network, folder)
        """Answers the requests about images."""
        self.containers = Containers(engine, flows, self.images)
        """Answers the requests about containers."""
        self._requests: dict[UUID, int] = {}
        self._strangers: list[asyncio.StreamWriter] = []
        self._minute, self._said, self._unsaid = 0.0, 0, 0
        self._version: tuple[float, Any] = 0.0, None
        self.open = 0
        """Connections."""

    async def _is_network(self, mode: str, run: Run) -> bool:
        return await self.containers.is_network(mode, run)

    async def serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Answer the one request of a connection, and close it."""
        self.open += 1
        try:
            with contextlib.suppress(OSError, TimeoutError):
                await self._serve(reader, client)
        finally:
            client.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_UNREAD):
                    await client.wait_closed()
            client.transport.abort()
            self.open -= 1

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        request, asked = None, None
        try:
            request = await self._read(reader, client)
            if request is None:
                return
            if (request.method, request.path) == _FIRST:
                client.write(http.answer(*await self._first()))
                return await client.drain()
            run = await self._runs.of(request.headers)
            with self._counted(run):
                rule, groups, at_the_end = _rule(request)
                asked = Asked(run, request, client, groups)
                if run.is_over and not at_the_end:
                    raise Refused(403, "its run is over")
                await rule(self)(asked)
                client.close()
                await client.wait_closed()  # a connection counts until its client has read all
        except Refused as refusal:
            self._say(request, refusal)
            if asked is not None and asked.answered:
                return  # an answer has begun: the client sees that it breaks off
            client.write(http.answer(refusal.status, {"message": f"the broker: {refusal}"}))
            await client.drain()
            if request is not None:
                await request.drain()

    async def _first(self) -> tuple[int, Any]:
        """What the engine says of its version; asked anew after a while only."""
        at, version = self._version
        if version is None or time.monotonic() - at > _VERSION_KNOWN_FOR:
            status, version = await self._engine.ask(*_FIRST)
            if status != 200:
                return status, version
            self._version = time.monotonic(), version
        return 200, version

    async def _read(
        self, reader: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> Request | None:
        """Read the head of a request. While too many are awaited, the oldest are given up."""
        self._strangers.append(client)
        if len(self._strangers) > _MOST_STRANGERS:
            self._strangers.pop(0).transport.abort()
        try:
            return await http.read_request(reader)
        finally:
            if client in self._strangers:
                self._strangers.remove(client)

    def _say(self, request: Request | None, refusal: Refused) -> None:
        now = time.monotonic()
        if now - self._minute > _MINUTE:
            if self._unsaid:
                _log.warning("%d more requests were refused", self._unsaid)
            self._minute, self._said, self._unsaid = now, 0, 0
        if self._said >= _MOST_SAID:
            self._unsaid += 1
            return
        self._said += 1
        of = (request.headers.get(RUN_HEADER.lower(), "") if request else "")[:36] or "unknown"
        what = f"{request.method} {request.path}"[:200] if request else "a request"
        level = logging.DEBUG if refusal.status == _GONE else logging.WARNING
        # It may quote the request: no line, and no escape of a terminal, is to be made up by that.
        why = "".join(char if char.isprintable() else " " for char in str(refusal))
        _log.log(level, "run %s may not: %s: %s", of, what, why)

    @contextlib.contextmanager
    def _counted(self, run: Run) -> Generator[None]:
        count = self._requests.get(run.id, 0)
        if count >= _MOST_REQUESTS:
            raise Refused(429, f"a run may have {_MOST_REQUESTS} requests at a time")
        self._requests[run.id] = count + 1
        try:
            yield
        finally:
            self._requests[run.id] -= 1
            if not self._requests[run.id]:
                del self._requests[run.id]


_Rule = Callable[[Broker], Callable[[Asked], Awaitable[None]]]
_RULES: list[tuple[str, str, _Rule, bool]] = [
    ("POST", "/containers/create", lambda broker: broker.containers.create, False),
    ("GET", "/containers/json", lambda broker: broker.containers.listing, True),
    # Its short id, too: the engine names the container of a build step so.
    ("GET", "/containers/([0-9a-f]{12,64})/json", lambda broker: broker.containers.inspect, True),
    ("POST", f"/containers/{ID}/attach", lambda broker: broker.containers.attach, False),
    ("POST", f"/containers/{ID}/start", lambda broker: broker.containers.start, False),
    ("POST", f"/containers/{ID}/wait", lambda broker: broker.containers.wait, True),
    ("POST", f"/containers/{ID}/stop", lambda broker: broker.containers.stop, True),
    ("DELETE", f"/containers/{ID}", lambda broker: broker.containers.remove, True),
    ("GET", f"/containers/{ID}/stats", lambda broker: broker.containers.stats, False),
    ("GET", f"/containers/{ID}/archive", lambda broker: broker.containers.copy_out, False),
    ("PUT", f"/containers/{ID}/archive", lambda broker: broker.containers.copy_in, False),
    ("GET", "/events", lambda broker: broker.containers.events, False),
    ("POST", "/networks/create", lambda broker: broker.containers.network, False),
    ("GET", f"/networks/{NETWORK}", lambda broker: broker.containers.read_network, False),
    ("POST", "/volumes/create", lambda broker: broker.containers.volume, False),
    ("DELETE", "/volumes/([a-z0-9-]+)", lambda broker: broker.containers.remove_volume, True),
    ("GET", "/images/(.+)/json", lambda broker: broker.images.inspect, False),
    ("DELETE", "/images/(.+)", lambda broker: broker.images.remove, True),
    ("POST", "/images/create", lambda broker: broker.images.pull, False),
    ("POST", "/build", lambda broker: broker.images.build, False),
    ("POST", "/auth", lambda broker: broker.images.log_in, False),
]
"""Method, path, the function that answers, and whether a run whose state is final may ask it."""


def _rule(request: Request) -> tuple[_Rule, tuple[str, ...], bool]:
    for method, pattern, rule, at_the_end in _RULES:
        if method == request.method and (found := re.fullmatch(pattern, request.path)):
            return rule, found.groups(), at_the_end
    raise Refused(403, "jobs may not send this request")
