"""The tokens of the gateway's users: in a file of the home, as hashes.

    prefecture_<id>_<secret>

The file has the SHA-256 of each secret. That is enough for 32 random bytes, which nobody can guess
or list; slow hashes are for passwords that people choose.
"""

import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Collection, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from tasks.errors import InvalidPayload, OperatorError
from tasks.settings import make_home, write_private_file

FILE = "tokens.json"
"""The file's name in a home."""
USER_TAG = "user:"
"""Begins the tag of a job that names its user: `user:anna`."""
_PREFIX = "prefecture"  # scanners for secrets know tokens by what they begin with
_ID, _SECRET = 4, 32  # bytes of randomness
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


_FILE = TypeAdapter(list[Token])


class Tokens:
    """The tokens of a home. Programs that read them see a change at once."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / FILE
        self._read_at: tuple[int, int, int] | None = None
        self._tokens: dict[str, Token] = {}

    def add(
        self, user: str, scopes: Collection[Scope] = USUAL, lasts: timedelta | None = None
    ) -> str:
        """Make a token and return it: its only copy. `lasts`: None is for ever.

        Raises InvalidPayload for a name that is no user's.
        """
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
        )
        with self._changing():
            self._write([*self.all(), token])
        return f"{_PREFIX}_{token.id}_{secret}"

    def all(self) -> list[Token]:
        """All tokens, the oldest first, expired ones too."""
        self._refresh()
        return list(self._tokens.values())

    def revoke(self, name: str) -> list[Token]:
        """Remove the token with an id, or all tokens of a user. Returns them.

        Raises InvalidPayload where there is none.
        """
        with self._changing():
            tokens = self.all()
            revoked = [token for token in tokens if name in (token.id, token.user)]
            if not revoked:
                raise InvalidPayload(
                    f"there is no token '{name[:80]}', and none of a user of that name: "
                    "`prefecture token list` shows them"
                )
            self._write([token for token in tokens if token not in revoked])
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

    def _refresh(self) -> None:
        """Read the file where it is not the one that was read last."""
        try:
            status = self._file.stat()
        except FileNotFoundError:
            self._read_at, self._tokens = None, {}
            return
        at = (status.st_ino, status.st_mtime_ns, status.st_size)
        if at != self._read_at:
            try:
                tokens = _FILE.validate_json(self._file.read_bytes())
            except ValueError as error:
                raise OperatorError(
                    f"{self._file} is no file of tokens: restore it, or remove it and make the "
                    "tokens again"
                ) from error
            self._read_at, self._tokens = at, {token.id: token for token in tokens}

    def _write(self, tokens: list[Token]) -> None:
        write_private_file(self._file, _FILE.dump_json(tokens, indent=2))

    @contextmanager
    def _changing(self) -> Generator[None]:
        """Let one program at a time change the file."""
        make_home(self._home)
        descriptor = os.open(self._home / f"{FILE}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
