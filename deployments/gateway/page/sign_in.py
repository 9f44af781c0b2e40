"""Routes by which a browser signs in, with a token or by a link, and out."""

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from deployments.gateway.requests import Me
from deployments.gateway.users.access import PAGE_HEADER, Access, cookie_name, is_secure
from deployments.gateway.users.sessions import LASTS
from deployments.gateway.users.tokens import Token

_CREATED, _NO_CONTENT, _FORBIDDEN = 201, 204, 403

router = APIRouter()


async def _access(request: Request) -> Access:
    return request.app.state.access


_Access = Annotated[Access, Depends(_access)]


async def _from_page(request: Request) -> None:
    """Refuse what another page can make a browser send. Raises HTTPException."""
    if PAGE_HEADER not in request.headers:
        raise HTTPException(_FORBIDDEN, f"this is for the page, which sends {PAGE_HEADER}")


class SignIn(BaseModel):
    """One of two."""

    model_config = ConfigDict(extra="forbid")

    token: str | None = Field(None, max_length=200)
    link: str | None = Field(None, max_length=200)
    """The secret of a link of `prefecture token link`."""


@router.post("/session", status_code=_CREATED, dependencies=[Depends(_from_page)])
async def sign_in(request: Request, response: Response, access: _Access, given: SignIn) -> Me:
    """Sign a browser in: it gets a cookie, which no script can read, in place of the token."""
    if given.link is not None:
        secret = access.sessions.redeem(given.link)
        token = secret and access.sessions.find(secret)
        if not secret or not token:
            cure = "ask for another, or sign in with your token"
            raise access.refusal(request, "this link has been used, or is over an hour old", cure)
    else:
        token = access.find((given.token or "").strip())
        if token is None:
            raise access.refusal(
                request, "the token is wrong, revoked or expired", "ask the operator for one"
            )
        secret = access.sessions.begin(token)
    access.admit(request, token).record(_CREATED)
    response.set_cookie(
        cookie_name(request),
        secret,
        max_age=_seconds(token),
        path="/",
        secure=is_secure(request),
        httponly=True,
        samesite="strict",
    )
    return Me.of(token)


@router.delete("/session", status_code=_NO_CONTENT, dependencies=[Depends(_from_page)])
async def sign_out(request: Request, response: Response, access: _Access) -> None:
    """Sign a browser out: its cookie is worthless afterwards, wherever there is a copy of it."""
    name = cookie_name(request)
    if secret := request.cookies.get(name):
        access.sessions.end(secret)
    response.delete_cookie(
        name, path="/", secure=is_secure(request), httponly=True, samesite="strict"
    )


def _seconds(token: Token) -> int:
    """How long the cookie is kept: no longer than the token is good."""
    longest = LASTS
    if token.expires is not None:
        longest = min(longest, token.expires - token.created)
    return int(longest.total_seconds())
