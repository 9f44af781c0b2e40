"""Prefect's own limit of requests, which deployments/serving/admission.py replaces.

On SQLite, Prefect's server handles a hundred requests at a time, and counts a websocket as one for
as long as it is open, and a request from its first byte: a hundred idle websockets, or a hundred
unfinished requests, stop it from answering.
"""

from prefect.server.api.server import RequestLimitMiddleware
from starlette.applications import Starlette


def take_limit(app: Starlette) -> int | None:
    """Remove Prefect's limit of requests from its server, before that starts. Returns the limit;
    None where there is none, as on PostgreSQL."""
    limits = [m for m in app.user_middleware if m.cls is RequestLimitMiddleware]  # pyright: ignore[reportUnnecessaryComparison]
    for limit in limits:
        app.user_middleware.remove(limit)
    return min((int(str(one.kwargs["limit"])) for one in limits), default=None)
