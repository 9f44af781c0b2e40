"""python -m deployments.server.program ADDRESS PORT [--name NAME ...]
       [--bind ADDRESS [--certificate FILE --key FILE]] [--no-services]

Prefect's server, extended: one more endpoint, a check that refuses requests from pages of other
origins, bounds on the connections that clients hold, a check of what jobs ask, requests for runs
answered one after the other, and answers that clients retry while the database or Redis is away.
NAME: a further host name by which the server is known.
--bind: a second address, with TLS where there is a certificate.
--no-services: the background services run elsewhere, once for several servers.
"""

from tasks.runtime.importing import importing

with importing():
    from functools import cache

    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, get_current_settings
    from starlette.types import ASGIApp

    import deployments.server.bulk_endpoint  # noqa: F401  # registers its route  # pyright: ignore[reportUnusedImport]
    from deployments.server.job_plane import JobPlane
    from deployments.server.login import Login
    from deployments.server.looks import Looks
    from deployments.server.looks_lock import lock_of_servers
    from deployments.server.outages import Outages
    from deployments.server.request_limit import take_limit
    from deployments.serving import listeners
    from deployments.serving.admission import Admission
    from deployments.serving.same_origin import SameOrigin

_NO_SERVICES = "--no-services"


def main() -> None:
    """Serve until SIGTERM or SIGINT, as `prefect server start` does."""
    at, flags = listeners.parse("deployments.server.program", _NO_SERVICES)
    server = get_current_settings().server
    password = PREFECT_SERVER_API_AUTH_STRING.value()
    app = create_app(final=True, webserver_only=_NO_SERVICES in flags)
    # Prefect makes it anew for each request, in almost a second in which nobody else is answered.
    app.openapi = cache(app.openapi)
    limit = take_limit(app)
    guarded: ASGIApp = Looks(app, lock_of_servers)
    if password:
        guarded = Login(JobPlane(guarded, str(password)), str(password))
    listeners.serve(
        SameOrigin(Admission(Outages(guarded), limit), at.names),
        at,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main()
