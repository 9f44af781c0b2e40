"""python -m deployments.server.program ADDRESS PORT [NAME ...]: Prefect's server, extended.

There is one more endpoint, a check that refuses requests from pages of other origins, and bounds on
the connections that clients hold. NAME: further host names by which the server is known.
"""

from tasks.runtime.importing import importing

with importing():
    import resource
    import sys
    from functools import cache

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    import deployments.server.bulk_endpoint  # noqa: F401  # registers its route  # pyright: ignore[reportUnusedImport]
    from deployments.server.admission import Admission, take_limit
    from deployments.server.same_origin import SameOrigin


def main(address: str, port: int, names: list[str]) -> None:
    """Serve until SIGTERM or SIGINT, as `prefect server start` does."""
    _open_many_files()
    server = get_current_settings().server
    app = create_app(final=True)
    # Prefect makes it anew for each request, in almost a second in which nobody else is answered.
    app.openapi = cache(app.openapi)
    uvicorn.run(
        SameOrigin(Admission(app, take_limit(app)), names),
        host=address,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


def _open_many_files() -> None:
    """Allow this process as many connections as the host does: each is a file, and by default it
    may open 1,024, after which it accepts nobody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
