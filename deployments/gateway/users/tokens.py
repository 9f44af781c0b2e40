"""The tokens of the gateway's users: in a file of the home, as hashes.

    prefecture_<id>_<secret>

The file has the SHA-256 of each secret. That is enough for 32 random bytes, which nobody can guess
or list; slow hashes are for passwords that people choose.
"""

import hmac
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from deployments.gateway.users.home_list import HomeList
from tasks.contracts import USER_TAG
from tasks.errors import InvalidPayload

FILE = "tokens.json"
"""The file's name in a home."""
_PREFIX = "prefecture"  # scanners for secrets know tokens by what they begin with
_ID, _SECRET = 4, 32  # bytes of randomness
_BLOCK = re.compile(r"[a-z0-9-]{1,100}")
_USER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class Scope(StrEnum):
    """What a token allows."""

    SUBMIT = "submit"
    """Submit jobs; cancel, restart and delete one's own."""
    READ_OWN = "read-own"
    """See one's own jobs."""
    READ_ALL = "read-all"
    """See the jobs of all users."""
    OPERATE = "operate"
    """All of these, on the jobs of all users."""


USUAL = (Scope.SUBMIT, Scope.READ_OWN)
"""The scopes of a token for which none are named."""
_IMPLIED = {Scope.READ_ALL: {Scope.READ_OWN}, Scope.OPERATE: set(Scope)}


class Token(BaseModel, frozen=True):
    """A token, without its secret."""

    id: str
    user: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None
    """None: never."""
    digest: str
    """SHA-256 of the secret, hexadecimal."""
    secrets: tuple[str, ...] = ()
    """The Secret blocks of Prefect that its user's jobs may have."""

    @property
    def is_expired(self) -> bool:
        """Whether it is of no use any more."""
        return self.expires is not None and self.expires <= datetime.now(UTC)

    def allows(self, scope: Scope) -> bool:
        """Whether it has a scope, or one that implies it."""
        return any(scope == own or scope in _IMPLIED.get(own, ()) for own in self.scopes)

    @property
    def tag(self) -> str:
        """The tag of its user's jobs."""
        return f"{USER_TAG}{self.user}"


class Tokens:
    """The tokens of a home. Programs that read them see a change at once."""

    def __init__(self, home: Path) -> None:
        self._kept = HomeList(
            home,
            FILE,
            TypeAdapter(list[Token]),
            "restore it, or remove it and make the tokens again",
        )
        self._listed: list[Token] | None = None
        self._tokens: dict[str, Token] = {}

    def add(
        self,
        user: str,
        scopes: Collection[Scope] = USUAL,
        lasts: timedelta | None = None,
        allowed: Collection[str] = (),
    ) -> str:
        """Make a token and return it: its only copy. `lasts`: None is for ever. `allowed`: the
        Secret blocks that its user's jobs may have.

        Raises InvalidPayload for a name that is no user's, or no block's.
        """
        for name in allowed:
            if not _BLOCK.fullmatch(name):
                raise InvalidPayload(
                    f"secret: {name[:80]!r} is no name of a block: use small letters, digits and -"
                )
        if not _USER.fullmatch(user):
            raise InvalidPayload(
                f"{user[:80]!r} is no name for a user: use up to 63 lower-case letters, digits, "
                "'.', '_' and '-', such as anna"
            )
        now = datetime.now(UTC)
        secret = secrets.token_urlsafe(_SECRET)
        token = Token(
            id=secrets.token_hex(_ID),
            user=user,
            scopes=tuple(scope for scope in Scope if scope in scopes),
            created=now,
            expires=None if lasts is None else now + lasts,
            digest=_digest(secret),
            secrets=tuple(allowed),
        )
        with self._kept.changing():
            self._kept.write([*self.all(), token])
        return f"{_PREFIX}_{token.id}_{secret}"

    def all(self) -> list[Token]:
        """All tokens, the oldest first, expired ones too."""
        return list(self._kept.read())

    def revoke(self, name: str) -> list[Token]:
        """Remove the token with an id, or all tokens of a user. Returns them.

        Raises InvalidPayload where there is none.
        """
        with self._kept.changing():
            tokens = self.all()
            revoked = [token for token in tokens if name in (token.id, token.user)]
            if not revoked:
                raise InvalidPayload(
                    f"there is no token '{name[:80]}', and none of a user of that name: "
                    "`prefecture token list` shows them"
                )
            self._kept.write([token for token in tokens if token not in revoked])
        return revoked

    def find(self, text: str) -> Token | None:
        """The token that a client has sent; None where it is unknown, revoked or expired."""
        prefix, _, rest = text.partition("_")
        id, _, secret = rest.partition("_")
        self._refresh()
        token = self._tokens.get(id)
        # Compared for an unknown id too, so that the time tells nothing.
        is_right = hmac.compare_digest(_digest(secret), token.digest if token else _digest(""))
        if prefix != _PREFIX or token is None or not is_right or token.is_expired:
            return None
        return token

    def known(self, id: str) -> Token | None:
        """The token with an id; None where it is unknown, revoked or expired."""
        self._refresh()
        token = self._tokens.get(id)
        return None if token is None or token.is_expired else token

    def _refresh(self) -> None:
        """Read the file where it is not the one that was read last."""
        listed = self._kept.read()
        if listed is not self._listed:
            self._listed, self._tokens = listed, {token.id: token for token in listed}


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
