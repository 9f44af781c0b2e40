"""HTTP/1.1 as the broker reads it: one request per connection, and only bodies of known length.

Nothing of a request is passed on as it came, and nothing behind it is read: so a second request
cannot be hidden in it.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

_LINE = re.compile(r"([A-Z]{1,10}) (/[!-~]*) HTTP/1\.1")
_FIELD = re.compile(r"([A-Za-z0-9-]+):[ \t]*([\t -~]*)")
_LENGTH = re.compile(r"[0-9]{1,15}")
_TIMEOUT = 30.0  # seconds for a request's head, and for each piece of its body
PIECE = 2**16
"""Bytes of a stream that are read at once, and held in memory."""
MOST_JSON = 2**20
"""Bytes of a body that is read as a whole."""
_UNSENT = 10.0  # seconds in which a body that is not wanted any more is read
_DRAINED = 2**26  # bytes of a refused request's body that are read, so that its answer is read too


class Refused(Exception):
    """A request is not passed on. Has the status of the answer, and the reason in one line."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class Request:
    """A request, without its body."""

    method: str
    path: str
    """Decoded, without the version of the API."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By their names in small letters."""
    length: int
    """Bytes of its body."""
    reader: asyncio.StreamReader
    read: int = 0
    """Bytes of its body that have been read."""

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece. Raises Refused where it ends early, or does not come."""
        while self.read < self.length:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    data = await self.reader.read(min(PIECE, self.length - self.read))
            except TimeoutError:
                raise Refused(408, "the body of the request does not come") from None
            if not data:
                raise Refused(400, "the body of the request is shorter than it says")
            self.read += len(data)
            yield data

    async def json(self) -> Any:
        """The body as JSON. Raises Refused where it is none, or has a name twice."""
        if self.length > MOST_JSON:
            raise Refused(413, f"a body of JSON may have {MOST_JSON:,} bytes")
        return parsed(b"".join([piece async for piece in self.pieces()]))

    async def whole(self, most: int) -> bytes:
        """The body, of at most so many bytes."""
        if self.length > most:
            raise Refused(413, f"this body may have {most:,} bytes")
        return b"".join([piece async for piece in self.pieces()])

    def no_body(self) -> None:
        """Raise Refused where there is one."""
        if self.length:
            raise Refused(400, "this request has no body")

    async def drain(self) -> None:
        """Read what is left of the body, up to a bound: then its sender reads the answer."""
        async with asyncio.timeout(_UNSENT):
            while self.read < min(self.length, _DRAINED):
                if not (data := await self.reader.read(PIECE)):
                    return
                self.read += len(data)


def parsed(body: bytes) -> Any:
    """A body as JSON. Raises Refused where it is none, or an object has a name twice."""
    try:
        return json.loads(body, object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from None


def object_of(text: str, name: str) -> dict[str, Any]:
    """A value of a query as an object of JSON; empty where there is none.

    `name`: that of the value. Raises Refused for any other text.
    """
    try:
        found: Any = json.loads(text or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused(400, f"{name} must be a JSON object")
    return cast(dict[str, Any], found)


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read the head of a request; None where the client closes without one.

    Raises Refused for anything that is not exactly what a client of Docker sends.
    """
    try:
        async with asyncio.timeout(_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise Refused(400, "the head of the request is not complete") from None
    except asyncio.LimitOverrunError:
        raise Refused(431, f"the head of a request may have {PIECE:,} bytes") from None
    except TimeoutError:
        raise Refused(408, "the head of the request does not come") from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(first)
    if not found:
        raise Refused(400, "the first line is not that of a request of HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if not field or field[1].lower() in headers:
            raise Refused(400, "a header that is not well-formed, or given twice")
        headers[field[1].lower()] = field[2].strip()
    if "transfer-encoding" in headers:
        raise Refused(400, "a body must have a Content-Length, and no Transfer-Encoding")
    length = headers.get("content-length", "0")
    if not _LENGTH.fullmatch(length):
        raise Refused(400, "a Content-Length that is no number")
    path, _, query = found[2].partition("?")
    return Request(
        method=found[1],
        path=_path(path),
        query=_query(query),
        headers=headers,
        length=int(length),
        reader=reader,
    )


def answer(status: int, body: Any = None) -> bytes:
    """An answer with a body of JSON, after which the connection is closed."""
    data = b"" if body is None else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {'OK' if status < 400 else 'Refused'}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + data


_VERSION = re.compile(r"/v1\.[0-9]{1,3}(?=/)")


def _path(raw: str) -> str:
    path = unquote(_VERSION.sub("", raw, count=1))
    parts = path.split("/")[1:]
    # Images have the name registry.example.org/team/name, and no part is empty or a step upwards.
    if any(part in ("", ".", "..") for part in parts) or not re.fullmatch(r"[!-~]+", path):
        raise Refused(400, "a path that is not well-formed")
    return path


def _query(raw: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(raw, keep_blank_values=True, strict_parsing=True) if raw else []
    except ValueError:
        raise Refused(400, "a query that is not well-formed") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise Refused(400, "a query that has a name twice")
    return dict(pairs)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name.lower() for name, _ in pairs}) < len(pairs):  # as the engine reads names
        raise ValueError("an object has a name twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
