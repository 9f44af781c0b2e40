"""Logs a browser in to Prefect's UI by a link of deployments/login_link.py, with nothing to type.

The UI keeps user and password in the browser's local storage, under a name that is Prefect's own. A
page exchanges the link's token for them. A link works once.
"""

import secrets
import time
from base64 import b64encode

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from deployments.login_link import PATH, expiry_of

_NONCE = 16  # bytes of randomness
_LONGEST = 1024  # bytes of a token
_STORED_AS = "prefect-password"  # in the browser, by both of Prefect's UIs
_FORBIDDEN, _NOT_ALLOWED = 403, 405
_SAFE = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>Prefecture</title>
<p id="said">Logging in ...</p>
<script nonce="%(nonce)s">
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
fetch("%(path)s", {method: "POST", body: token}).then(async answer => {
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.exception_message);
  localStorage.setItem("%(name)s", said.credentials);
  location.replace("/");
}).catch(error => { document.getElementById("said").textContent = error.message; });
</script>
</html>
"""


class Login:
    """ASGI middleware: the page of the links, and the exchange of their tokens."""

    def __init__(self, app: ASGIApp, password: str) -> None:
        self._app = app
        self._password = password
        self._used: dict[str, float] = {}  # tokens, with the time when they expire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer requests for the page; pass on all others."""
        if scope["type"] != "http" or scope["path"] != PATH:
            return await self._app(scope, receive, send)
        await (await self._answer(Request(scope, receive)))(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "GET":
            return _page()
        if request.method != "POST":
            return Response(status_code=_NOT_ALLOWED, headers={"Allow": "GET, POST"})
        token = (await request.body())[:_LONGEST].decode("ascii", "replace")
        if not self._take(token):
            reason = "This link has been used, or is older than an hour: `prefecture ui` prints one"
            return JSONResponse({"exception_message": reason}, _FORBIDDEN, _SAFE)
        credentials = b64encode(self._password.encode()).decode()
        return JSONResponse({"credentials": credentials}, headers=_SAFE)

    def _take(self, token: str) -> bool:
        """Whether a token is good, which it is once."""
        expiry = expiry_of(token, self._password)
        self._used = {one: until for one, until in self._used.items() if until > time.time()}
        if expiry is None or token in self._used:
            return False
        self._used[token] = expiry
        return True


def _page() -> Response:
    nonce = secrets.token_urlsafe(_NONCE)
    policy = f"default-src 'none'; script-src 'nonce-{nonce}'; connect-src 'self'"
    page = _PAGE % {"nonce": nonce, "path": PATH, "name": _STORED_AS}
    return HTMLResponse(page, headers=_SAFE | {"Content-Security-Policy": policy})
