"""What passes by itself: the server away for a while, or too busy to answer."""

import httpx

_SERVER_ERROR = 500
_TOO_BUSY = (408, 429)


def is_transient(error: BaseException) -> bool:
    """Whether the server is away, rather than something wrong with what was asked."""
    if isinstance(error, httpx.HTTPStatusError):
        status = error.response.status_code
        return status >= _SERVER_ERROR or status in _TOO_BUSY
    return isinstance(error, httpx.TransportError)
