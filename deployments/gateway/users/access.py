"""Who asks, and whether they may: tokens, scopes, and bounds on the number of requests."""

import math
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from deployments.gateway.users.audit import AuditLog
from deployments.gateway.users.sessions import Sessions
from deployments.gateway.users.tokens import Scope, Token, Tokens

REFUSED_A_MINUTE = 60
"""Requests a minute that an address may send with no token or a wrong one."""
PAGE_HEADER = "x-prefecture-page"
"""Header of requests of the page that change something. A page of another origin may not set it
without asking first, and is refused then."""
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY = 401, 403, 429
_READING = ("GET", "HEAD")
_bearer = HTTPBearer(auto_error=False, description="A token of `prefecture token add`.")


@dataclass(frozen=True)
class Caller:
    """The user who has sent a request."""

    token: Token
    address: str
    audit: AuditLog
    action: str
    """The name of the route."""
    session: str | None = None
    """The secret of the browser that has sent it; None for a program, which sends its token."""

    def may_see(self, tags: Collection[str]) -> bool:
        """Whether a job with these tags may be seen."""
        own = self.token.tag in tags and self.token.allows(Scope.READ_OWN)
        return own or self.token.allows(Scope.READ_ALL)

    def may_change(self, tags: Collection[str]) -> bool:
        """Whether a job with these tags may be cancelled, restarted or deleted."""
        own = self.token.tag in tags and self.token.allows(Scope.SUBMIT)
        return own or self.token.allows(Scope.OPERATE)

    def record(
        self, status: int, *jobs: UUID, schedule: UUID | None = None, reason: str = ""
    ) -> None:
        """Write a line to the audit log."""
        self.audit.write(
            self.action,
            status,
            user=self.token.user,
            token=self.token.id,
            address=self.address,
            jobs=jobs,
            schedule=schedule,
            reason=reason,
        )

    def refuse(self, reason: str) -> HTTPException:
        """The refusal of what the token does not allow, which is in the audit log."""
        self.record(_FORBIDDEN, reason=reason)
        return HTTPException(_FORBIDDEN, reason)


class Access:
    """Finds the user of a request. `a_minute`: requests that a user may send a minute."""

    def __init__(self, tokens: Tokens, sessions: Sessions, audit: AuditLog, a_minute: int) -> None:
        self.sessions = sessions
        self._tokens = tokens
        self._audit = audit
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._usual = RateLimitItemPerMinute(a_minute)
        self._refused = RateLimitItemPerMinute(REFUSED_A_MINUTE)

    def caller(self, request: Request, given: HTTPAuthorizationCredentials | None) -> Caller:
        """The user who has sent a request.

        Raises HTTPException: 401 for no token or a wrong one, 403 for a request with a cookie that
        does not come from our page, 429 for too many requests.
        """
        cookie = None if given else request.cookies.get(cookie_name(request))
        token = self._tokens.find(given.credentials) if given else None
        if cookie is not None:
            token = self.sessions.find(cookie)
            if token is not None and not _is_of_page(request):
                raise HTTPException(_FORBIDDEN, f"only the page itself may do this: {PAGE_HEADER}")
        if token is None:
            if cookie is not None:
                raise self.refusal(request, "the session is over: sign in again")
            reason = "the token is wrong, revoked or expired" if given else "a token is needed"
            raise self.refusal(request, reason, "send `Authorization: Bearer prefecture_…`")
        return self.admit(request, token, cookie)

    def find(self, text: str) -> Token | None:
        """The token that a client has sent; None where it is unknown, revoked or expired."""
        return self._tokens.find(text)

    def admit(self, request: Request, token: Token, session: str | None = None) -> Caller:
        """The user of a token, whose requests are counted. Raises HTTPException: 429."""
        most = f"more than {self._usual.amount} requests a minute"
        self._count(self._usual, token.user, most)
        return Caller(token, _address(request), self._audit, _action(request), session)

    def refusal(self, request: Request, reason: str, cure: str = "") -> HTTPException:
        """The refusal of a request for want of a token, which is in the audit log.

        Raises HTTPException where the address has sent too many such: 429.
        """
        address = _address(request)
        self._count(self._refused, address, f"{address} has sent too many wrong tokens")
        self._audit.write(
            _action(request), _UNAUTHORIZED, user=None, token=None, address=address, reason=reason
        )
        reason = f"{reason}: {cure}" if cure else reason
        return HTTPException(_UNAUTHORIZED, reason, {"WWW-Authenticate": "Bearer"})

    def is_good(self, caller: Caller) -> bool:
        """Whether a user who was admitted would still be: neither is the token revoked or expired,
        nor has the browser signed out."""
        if caller.session is not None and self.sessions.find(caller.session) is None:
            return False
        return self._tokens.known(caller.token.id) == caller.token

    def _count(self, limit: RateLimitItemPerMinute, key: str, reason: str) -> None:
        if self._limiter.hit(limit, key):
            return
        free = self._limiter.get_window_stats(limit, key).reset_time
        seconds = max(1, math.ceil(free - time.time()))
        raise HTTPException(
            _TOO_MANY, f"{reason}: try again in {seconds} s", {"Retry-After": str(seconds)}
        )


def cookie_name(request: Request) -> str:
    """The name of the cookie of a browser that is signed in.

    With the port, since a browser has the same cookies for all ports of a host. With TLS, the
    prefix keeps other hosts and plain HTTP from setting it.
    """
    secure = "__Host-" if is_secure(request) else ""
    return f"{secure}prefecture-{request.url.port or 'web'}"


def is_secure(request: Request) -> bool:
    """Whether a request came by TLS, to us or to a proxy on this host."""
    return request.url.scheme == "https"


def _is_of_page(request: Request) -> bool:
    """Whether a request with a cookie is one that only our own page can have sent.

    deployments/serving/same_origin.py has compared the origin, if there is one.
    """
    if request.method in _READING:
        return True
    return "origin" in request.headers and PAGE_HEADER in request.headers


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _action(request: Request) -> str:
    return str(request.scope["route"].name)


def allowed(scope: Scope | None = None) -> Callable[..., Awaitable[Caller]]:
    """A dependency of FastAPI: the user of a request, whose token has a scope."""

    async def find(
        request: Request,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> Caller:
        access: Access = request.app.state.access
        caller = access.caller(request, given)
        if scope is not None and not caller.token.allows(scope):
            raise caller.refuse(f"the token has not the scope {scope}")
        return caller

    return find
