"""The broker's client of the Docker engine: one connection for each request."""

import asyncio
import contextlib
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
)
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from tasks.containers.broker.http import PIECE, Refused

_TIMEOUT = 60.0  # seconds for an answer that is read as a whole
_MOST = 2**26  # bytes of such an answer
_HEAD_END = b"\r\n\r\n"
_BODILESS = (204, 304)
_DOWN = 503


class Engine:
    """The engine behind a socket. Errors of the connection are Refused with the status 503."""

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[int, Any]:
        """Send a request. Returns the status of the answer and its JSON; None where it has none."""
        status, data = await self.fetch(method, path, query, body)
        try:
            return status, json.loads(data) if data else None
        except ValueError:
            raise Refused(_DOWN, f"the Docker engine answers {path} without JSON") from None

    async def listed(self, labels: Collection[str]) -> list[dict[str, Any]]:
        """All containers with these labels."""
        query = {"all": "1", "filters": json.dumps({"label": sorted(labels)})}
        status, found = await self.ask("GET", "/containers/json", query)
        if status != 200:
            raise Refused(_DOWN, "the Docker engine does not list its containers")
        return found

    async def fetch(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> tuple[int, bytes]:
        """Send a request. Returns the status of the answer, and its body, of at most 64 MiB.

        `body`: the bytes of a tarball, or a value to send as JSON.
        """
        is_tar = isinstance(body, bytes)
        data = body if is_tar else b"" if body is None else json.dumps(body).encode()
        sent = {"Content-Length": str(len(data))}
        if data:
            sent["Content-Type"] = "application/x-tar" if is_tar else "application/json"
        async with self._connected() as (reader, writer), asyncio.timeout(_TIMEOUT):
            writer.write(_head(method, path, query, sent) + data)
            head = await reader.readuntil(_HEAD_END)
            whole = bytearray()
            async for piece in _body(reader, head):
                whole += piece
                if len(whole) > _MOST:
                    raise Refused(_DOWN, f"the Docker engine's answer to {path} is too long")
            return _status(head), bytes(whole)

    async def stream(
        self,
        client: asyncio.StreamWriter,
        gone: "asyncio.Task[Any]",
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Pass an answer on as it comes, in pieces, no faster than its client reads.

        `gone` ends when the client has closed; the connection to the engine is closed then, too.
        """
        sent = {"Connection": "close", **(headers or {}), "Content-Length": "0"}
        async with self._connected() as (reader, writer):
            writer.write(_head(method, path, query, sent))
            await _until(gone, _copy(reader, client))

    async def follow(
        self,
        gone: "asyncio.Task[Any]",
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: AsyncIterable[bytes],
        length: int,
        *,
        begin: Callable[[int], Awaitable[None]],
        take: Callable[[bytes], Awaitable[None]],
    ) -> None:
        """Send a POST. Calls `begin` with the status of the answer, then `take` with each piece."""

        async def read(reader: asyncio.StreamReader) -> None:
            head = await reader.readuntil(_HEAD_END)
            await begin(_status(head))
            async for data in _body(reader, head):
                await take(data)

        sent = {**headers, "Content-Length": str(length)}
        async with self._connected() as (reader, writer):
            writer.write(_head("POST", path, query, sent))
            await _write(writer, body)
            await _until(gone, read(reader))

    async def said_after(
        self, attach: str, start: str, wanted: bytes, seconds: float
    ) -> tuple[int, Any]:
        """Start a container, and wait until it prints `wanted`. Returns the answer to the start.

        `attach`, `start`: paths. Raises Refused where it prints something else, or ends.
        """
        query = {"stream": "1", "stdout": "1", "stderr": "1"}
        async with self._connected() as (reader, writer):
            writer.write(_head("POST", attach, query, {"Content-Length": "0"}))
            await reader.readuntil(_HEAD_END)
            status, answer = await self.ask("POST", start)
            if status >= 400:
                return status, answer
            said = b""
            try:
                async with asyncio.timeout(seconds):
                    while wanted not in said and (data := await reader.read(PIECE)):
                        said += data
            except TimeoutError:
                raise Refused(_DOWN, "no network for the container: it is not ready") from None
            if wanted not in said:
                line = " ".join(said[-300:].decode(errors="replace").split())
                raise Refused(_DOWN, f"no network for the container: {line}")
            return status, answer

    @contextlib.asynccontextmanager
    async def _connected(
        self,
    ) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket, limit=PIECE)
        except OSError as error:
            raise Refused(_DOWN, f"the Docker engine does not answer: {error}") from None
        try:
            yield reader, writer
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            raise Refused(_DOWN, f"the Docker engine does not answer: {error}") from None
        finally:
            writer.close()


async def _write(writer: asyncio.StreamWriter, body: AsyncIterable[bytes]) -> None:
    async for piece in body:
        writer.write(piece)
        await writer.drain()


async def _copy(reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
    while data := await reader.read(PIECE):
        client.write(data)
        await client.drain()


async def _until(gone: "asyncio.Task[Any]", work: Coroutine[Any, Any, None]) -> None:
    """Do some work until it ends, or the client is gone."""
    working = asyncio.create_task(work)
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _body(reader: asyncio.StreamReader, head: bytes) -> AsyncGenerator[bytes]:
    """The body of an answer, piece by piece, as long as the answer says."""
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n")[1:])
    headers = {name: value.strip() for name, _, value in fields}
    if _status(head) in _BODILESS:
        return
    if headers.get(b"transfer-encoding") == b"chunked":
        while left := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            async for data in _so_many(reader, left):
                yield data
            await reader.readexactly(2)
    elif b"content-length" in headers:
        async for data in _so_many(reader, int(headers[b"content-length"])):
            yield data
    else:
        while data := await reader.read(PIECE):
            yield data


async def _so_many(reader: asyncio.StreamReader, left: int) -> AsyncGenerator[bytes]:
    while left:
        if not (data := await reader.read(min(PIECE, left))):
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(data)
        yield data


def _head(
    method: str, path: str, query: Mapping[str, str] | None, headers: Mapping[str, str]
) -> bytes:
    asked = quote(path, safe="/:@") + (f"?{urlencode(query)}" if query else "")
    lines = [f"{method} {asked} HTTP/1.1", "Host: docker"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _status(head: bytes) -> int:
    return int(head.split(b" ", 2)[1])
