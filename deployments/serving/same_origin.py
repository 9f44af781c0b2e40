"""Refuses requests to the embedded server that a web page of another origin has sent.

The API can run programs on this machine. A browser lets any page send requests to 127.0.0.1, also
some without asking the server first; and a page whose host name is made to resolve to 127.0.0.1
(DNS rebinding) may also read the answers. So the host name in a request must be one by which this
server is known, and the page that sent it, if there is one, must come from this server: browsers
say so in the header Origin of each request that changes something or that a page may read. Programs
send no Origin.
"""

from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

# The last is the host, for a container of Docker Desktop.
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "host.docker.internal"})

_MISDIRECTED, _FORBIDDEN = 421, 403
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


class SameOrigin:
    """ASGI middleware: passes on the requests and websockets that may be answered.

    `names`: further host names by which the server is known, behind a proxy for example.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 421 for an unknown host name and 403 for another origin, or pass on."""
        refusal = None
        if scope["type"] in ("http", "websocket"):
            refusal = self._refusal(Headers(scope=scope))
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose(_POLICY_VIOLATION, refusal[1])(scope, receive, send)
        else:
            await PlainTextResponse(refusal[1] + "\n", refusal[0])(scope, receive, send)

    def _refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Status and reason where a request is refused."""
        host, origin = headers.get("host", "").lower(), headers.get("origin")
        name = _name(f"//{host}")
        if name not in LOOPBACK | self._names:
            return _MISDIRECTED, (
                f"this server is not known as {name!r}: add the name to PREFECTURE_SERVER_HOSTS"
            )
        if origin is None or origin.lower() in (f"http://{host}", f"https://{host}"):
            return None
        # A proxy may name this server in Host, and then only Origin has the name that people use.
        if _name(origin.lower()) in self._names:
            return None
        return _FORBIDDEN, f"pages of {origin!r} may not use this server"


def _name(address: str) -> str:
    """The host name of an address, empty where it has none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
