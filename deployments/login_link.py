"""Links that log a browser in to Prefect's UI, once; deployments/server exchanges them.

    http://127.0.0.1:4200/prefecture/login#<expiry>.<random>.<signature>

The token is in the fragment, which browsers send to no server. It is signed with the password: a
client that has the password makes a link without a request.
"""

import hmac
import secrets
import time
from base64 import urlsafe_b64encode

PATH = "/prefecture/login"
"""Of the page on the server."""
_GOOD_FOR = 3600  # seconds
_BYTES = 12  # of randomness
_SIGNATURE = 16  # bytes of HMAC-SHA256: RFC 2104 asks for half of them at least


def make(ui: str, password: str) -> str:
    """A link. `ui`: the server's address; `password`: its own, as `user:password`."""
    signed = f"{int(time.time()) + _GOOD_FOR}.{secrets.token_urlsafe(_BYTES)}"
    return f"{ui}{PATH}#{signed}.{_signature(signed, password)}"


def expiry_of(token: str, password: str) -> float | None:
    """When a token expires, in seconds since 1970; None where it is forged, or has expired."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(signed, password).encode()):
        return None
    expiry = float(signed.partition(".")[0])
    return expiry if expiry > time.time() else None


def _signature(signed: str, password: str) -> str:
    whole = hmac.digest(password.encode(), f"login {signed}".encode(), "sha256")
    return urlsafe_b64encode(whole[:_SIGNATURE]).decode().rstrip("=")
