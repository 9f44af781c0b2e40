"""Requests to a gateway: tried again where that may help, refusals as one line."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import httpx

from deployments.client.gateway.transfers import PATIENCE, Patience
from deployments.gateway_login import Login
from tasks.errors import InvalidPayload, KeyTaken, NotAdmitted, PrefectureError, ServerUnavailable

_VERSION = "/v1"  # of the API
_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_AT_FIRST = 5.0  # seconds
_TOO_MANY = 429
_AWAY = (502, 503, 504)  # of a proxy before the gateway, too
# Nothing of the request has been read by the gateway.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class Refused(Exception):
    """A response that is no success: `status`, `detail` in one line, and its `headers`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.detail = _detail(response)
        self.headers = response.headers
        super().__init__(self.detail)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed later."""
        return self.status == _TOO_MANY or self.status in _AWAY

    async def is_over(self, patience: Patience, *, is_turn: bool = False) -> bool:
        """Pause before the next try, as long as the gateway asks for. Returns whether there is to
        be none. `is_turn`: whether the gateway is known to work on it."""
        value = self.headers.get("Retry-After", "")
        seconds = float(value) if value.isdecimal() else 0.0
        return not await patience.rest(seconds, is_turn=is_turn or self.status == _TOO_MANY)

    def error(self) -> PrefectureError:
        """What a user is told."""
        match self.status:
            case 401:
                reason = self.detail.partition(": send ")[0]  # which is for who writes requests
                return NotAdmitted(
                    f"{reason}: ask the operator of the gateway for a token, then call `prefecture "
                    "login`, or set PREFECTURE_TOKEN"
                )
            case 403:
                return NotAdmitted(self.detail)
            case 409 if self.detail.startswith("key "):
                return KeyTaken(self.detail)
            case 400 | 404 | 411 | 413 | 422:
                return InvalidPayload(self.detail)
            case 429 | 502 | 503 | 504:
                return ServerUnavailable(f"the gateway cannot answer now: {self.detail}")
            case _:
                return PrefectureError(self.detail)


class Requests:
    """Sends requests to a gateway. `patience`: seconds for which one is tried again, once there
    has been an answer to any."""

    def __init__(self, client: httpx.AsyncClient, url: str, patience: float) -> None:
        self._client = client
        self._patience = patience
        self._has_answered = False
        self.url = url
        """The gateway's address."""

    def with_patience(self, seconds: float) -> "Requests":
        """The same, with another patience: 0 tries once."""
        same = Requests(self._client, self.url, seconds)
        same._has_answered = self._has_answered
        return same

    async def get(self, path: str, **params: Any) -> Any:
        """The JSON that a GET answers. Parameters that are None are left out."""
        given = {name: value for name, value in params.items() if value is not None}
        return (await self.send("GET", path, params=given)).json()

    async def send(
        self, method: str, path: str, *, once: bool = False, **more: Any
    ) -> httpx.Response:
        """The response to a request, which is a success. Raises as `try_send`, PrefectureError
        where it is refused."""
        try:
            return await self.try_send(method, path, once=once, **more)
        except Refused as refused:
            raise refused.error() from None

    async def try_send(
        self, method: str, path: str, *, once: bool = False, **more: Any
    ) -> httpx.Response:
        """The response to a request, which is a success. Raises Refused, and ServerUnavailable.

        It is sent again, with pauses, while the gateway cannot be reached, cannot answer, or asks
        to wait. `once`: not where it may have been carried out, since twice is not the same.
        """
        # Until the first answer, the address may just be wrong.
        patience = Patience(
            self._patience if self._has_answered else min(_AT_FIRST, self._patience)
        )
        while True:
            try:
                response = await self._client.request(method, f"{_VERSION}{path}", **more)
            except httpx.HTTPError as error:
                lost = not isinstance(error, _NOT_SENT)
                if (once and lost) or not await patience.rest():
                    raise self.unavailable(error) from error
                continue
            if not self._has_answered:
                self._has_answered = True
                patience = Patience(self._patience)
            if response.is_success:
                return response
            refused = Refused(response)
            done = once and refused.status != _TOO_MANY  # perhaps
            if done or not refused.is_passing or await refused.is_over(patience):
                raise refused

    @asynccontextmanager
    async def stream(self, path: str, **more: Any) -> AsyncGenerator[httpx.Response]:
        """The response to a GET, as it arrives, tried once. Raises Refused, also for a redirect,
        and httpx.HTTPError."""
        async with self._client.stream("GET", f"{_VERSION}{path}", **more) as response:
            if not response.is_success:
                await response.aread()
                raise Refused(response)
            yield response

    def unavailable(self, error: httpx.HTTPError) -> ServerUnavailable:
        """The error for a request without a response, with the cure."""
        reason = str(error).partition("\n")[0] or type(error).__name__
        return ServerUnavailable(
            f"the gateway at {self.url} does not answer ({reason}): check the address, and ask its "
            "operator whether it runs"
        )


@asynccontextmanager
async def connected(login: Login, patience: float = PATIENCE) -> AsyncGenerator[Requests]:
    """Requests to a gateway with a token, for the block's time."""
    async with httpx.AsyncClient(
        base_url=login.url,
        headers={
            "Authorization": f"Bearer {_header(login.token)}",
            "User-Agent": f"prefecture/{version('prefecture')}",
        },
        timeout=_TIMEOUT,
        # Reading the certificates takes a while, and plain http needs none.
        verify=login.url.startswith("https://"),
    ) as client:
        yield Requests(client, login.url, patience)


def _header(token: str) -> str:
    """A token as a header can hold it. Raises NotAdmitted."""
    if not token.isascii() or not token.isprintable() or " " in token or not token:
        raise NotAdmitted(
            "the token is none: it begins with `prefecture_`, and has letters, digits, - and _"
        )
    return token


def _detail(response: httpx.Response) -> str:
    """The reason of a refusal, in one printable line; a proxy may give it in any form."""
    try:
        text = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        text = ""
    text = text or f"the gateway has answered {response.status_code} {response.reason_phrase}"
    line = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
