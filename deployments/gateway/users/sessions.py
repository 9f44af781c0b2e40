"""Browsers that are signed in, and links that sign one in: in a file of the home, as hashes.

A browser gets a secret of its own in a cookie, never the token. It is as good as the token that it
was made for: what ends the token, or narrows it, does so for the browser.
"""

import secrets
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from deployments.gateway.users.home_list import HomeList
from deployments.gateway.users.tokens import Token, Tokens
from tasks.errors import InvalidPayload

FILE = "sessions.json"
"""The file's name in a home."""
LASTS = timedelta(days=30)
"""How long a browser stays signed in."""
LINK_LASTS = timedelta(hours=1)
"""How long a link that signs in is good."""
_MOST = 50  # sessions of a token, and as many links: the oldest end
_SECRET = 32  # bytes of randomness


class Kind(StrEnum):
    """What a secret is good for."""

    BROWSER = "browser"
    LINK = "link"
    """To sign a browser in, once."""


class Session(BaseModel, frozen=True):
    """A secret, without itself."""

    kind: Kind
    token: str
    """The id of the token that it stands for."""
    expires: datetime
    digest: str
    """SHA-256 of the secret, hexadecimal."""


class Sessions:
    """The sessions of a home, and the links that begin one."""

    def __init__(self, home: Path, tokens: Tokens) -> None:
        self._tokens = tokens
        self._kept = HomeList(
            home, FILE, TypeAdapter(list[Session]), "remove it, and everybody signs in again"
        )
        self._listed: list[Session] | None = None
        self._by_digest: dict[str, Session] = {}

    def begin(self, token: Token) -> str:
        """Sign a browser in. Returns the secret for its cookie."""
        with self._kept.changing():
            return self._add(Kind.BROWSER, token.id, LASTS)

    def link(self, user: str) -> str:
        """Make the secret of a link that signs in, once, with the user's newest token.

        Raises InvalidPayload where the user has no token.
        """
        own = [token for token in self._tokens.all() if token.user == user and not token.is_expired]
        if not own:
            raise InvalidPayload(
                f"there is no token of a user '{user[:80]}': `prefecture token add` makes one"
            )
        with self._kept.changing():
            return self._add(Kind.LINK, own[-1].id, LINK_LASTS)

    def redeem(self, secret: str) -> str | None:
        """Sign a browser in by the secret of a link. None where it is used, unknown or too old."""
        with self._kept.changing():
            found = self._find(Kind.LINK, secret)
            if found is None:
                return None
            return self._add(Kind.BROWSER, found.token, LASTS, without=found)

    def find(self, secret: str) -> Token | None:
        """The token of a browser that is signed in; None where it is not, or not any more."""
        found = self._find(Kind.BROWSER, secret)
        return found and self._tokens.known(found.token)

    def end(self, secret: str) -> None:
        """Sign a browser out."""
        with self._kept.changing():
            if found := self._find(Kind.BROWSER, secret):
                self._kept.write([each for each in self._kept.read() if each != found])

    def _find(self, kind: Kind, secret: str) -> Session | None:
        listed = self._kept.read()
        if listed is not self._listed:
            self._listed, self._by_digest = listed, {each.digest: each for each in listed}
        found = self._by_digest.get(_digest(secret))
        if found is None or found.kind is not kind or found.expires <= datetime.now(UTC):
            return None
        # A token that has ended takes with it what was made for it.
        return found if self._tokens.known(found.token) else None

    def _add(self, kind: Kind, token: str, lasts: timedelta, without: Session | None = None) -> str:
        now, secret = datetime.now(UTC), secrets.token_urlsafe(_SECRET)
        new = Session(kind=kind, token=token, expires=now + lasts, digest=_digest(secret))
        kept = [each for each in self._kept.read() if each.expires > now and each != without]
        same = [each for each in kept if (each.kind, each.token) == (kind, token)]
        too_many = same[: max(0, len(same) + 1 - _MOST)]
        self._kept.write([*(each for each in kept if each not in too_many), new])
        return secret


def _digest(secret: str) -> str:
    return sha256(secret.encode(errors="replace")).hexdigest()
