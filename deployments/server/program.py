"""python -m deployments.server.program ADDRESS PORT [--name NAME ...]
       [--bind ADDRESS [--certificate FILE --key FILE]]

Prefect's server, extended: one more endpoint, a check that refuses requests from pages of other
origins, bounds on the connections that clients hold, and a check of what jobs ask.
NAME: a further host name by which the server is known.
--bind: a second address, with TLS where there is a certificate.
"""

from tasks.runtime.importing import importing

with importing():
    import argparse
    import asyncio
    import resource
    import sys
    from collections.abc import Generator
    from contextlib import contextmanager, suppress
    from functools import cache, partial

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, get_current_settings
    from starlette.types import ASGIApp
    from uvicorn.config import STARTUP_FAILURE

    import deployments.server.bulk_endpoint  # noqa: F401  # registers its route  # pyright: ignore[reportUnusedImport]
    from deployments.server.admission import Admission, take_limit
    from deployments.server.job_plane import JobPlane
    from deployments.server.login import Login
    from deployments.server.same_origin import SameOrigin


def main() -> None:
    """Serve until SIGTERM or SIGINT, as `prefect server start` does."""
    parser = argparse.ArgumentParser(prog="python -m deployments.server.program")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--name", dest="names", action="append", default=[])
    for name in ("--bind", "--certificate", "--key"):
        parser.add_argument(name)
    given = parser.parse_args()
    _open_many_files()
    server = get_current_settings().server
    password = PREFECT_SERVER_API_AUTH_STRING.value()
    app = create_app(final=True)
    # Prefect makes it anew for each request, in almost a second in which nobody else is answered.
    app.openapi = cache(app.openapi)
    limit = take_limit(app)
    guarded: ASGIApp = app
    if password:
        guarded = Login(JobPlane(app, str(password)), str(password))
    serve = partial(
        uvicorn.Config,
        SameOrigin(Admission(guarded, limit), given.names),
        port=given.port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )
    inside = uvicorn.Server(serve(host=given.address))
    outside = given.bind and _Beside(
        serve(
            host=given.bind,
            lifespan="off",  # once is enough
            ssl_certfile=given.certificate,
            ssl_keyfile=given.key,
        )
    )
    with suppress(KeyboardInterrupt):  # which uvicorn raises once more, when all is done
        asyncio.run(_serve(inside, outside))
    if not inside.started:
        sys.exit(STARTUP_FAILURE)


async def _serve(inside: uvicorn.Server, outside: uvicorn.Server | None) -> None:
    """Serve until a signal ends the first, and with it the second."""
    if outside is None:
        return await inside.serve()
    beside = asyncio.create_task(outside.serve())
    try:
        await inside.serve()
    finally:
        outside.should_exit = True
        await beside


class _Beside(uvicorn.Server):
    """A server beside another one of this process, which alone hears signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """See uvicorn.Server."""
        yield


def _open_many_files() -> None:
    """Allow this process as many connections as the host does: each is a file, and by default it
    may open 1,024, after which it accepts nobody."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
