"""Tells transient errors of Prefect's API from refusals."""

import httpx

_SERVER_ERROR = 500
_TOO_BUSY = (408, 429)


def is_transient(error: BaseException) -> bool:
    """Whether the server is away or too busy: the same request may succeed later."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= _SERVER_ERROR or status in _TOO_BUSY
    return isinstance(error, httpx.TransportError)
