"""Tokens with which a job speaks to the API, in place of the operator's password.

A token is sent as user and password, which Prefect's client does anyway where
PREFECT_API_AUTH_STRING is set. It names one flow run and a time, and is signed with the operator's
own password (HMAC-SHA256, RFC 2104), so that the server can check it and keeps no list of tokens:

    run:<id of the flow run>.<expiry, seconds since 1970>.<signature, hexadecimal>

The server lets it do what that run needs, until the run has ended: see deployments/server.
"""

import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID

USER = "run"
"""The user of every token."""
HEADER = "prefecture-run-tokens"
"""Header of every answer of a server that takes run tokens."""
_LIFETIME = timedelta(days=30)  # far longer than a job runs; a token ends with its run


def make(run: UUID, password: str, now: datetime | None = None) -> str:
    """The token of a run, as PREFECT_API_AUTH_STRING. `password`: the server's own."""
    expiry = int(((now or datetime.now(UTC)) + _LIFETIME).timestamp())
    return f"{USER}:{run}.{expiry}.{_signature(run, expiry, password)}"


def run_of(token: str, password: str) -> UUID | None:
    """The run that a token is for; None where it is forged, expired or no token."""
    user, _, rest = token.partition(":")
    id, _, rest = rest.partition(".")
    expiry, _, signature = rest.partition(".")
    try:
        run, until = UUID(id), int(expiry)
    except ValueError:
        return None
    good = hmac.compare_digest(signature.encode(), _signature(run, until, password).encode())
    return run if user == USER and good and datetime.now(UTC).timestamp() < until else None


def is_token(given: str) -> bool:
    """Whether a client that gives this user and password means to be a run."""
    return given.startswith(f"{USER}:")


def _signature(run: UUID, expiry: int, password: str) -> str:
    return hmac.digest(password.encode(), f"{USER} {run} {expiry}".encode(), "sha256").hex()
