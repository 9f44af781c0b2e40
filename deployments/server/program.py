"""python -m deployments.server.program ADDRESS PORT [NAME ...]: Prefect's server, extended.

There is one more endpoint, and a check that refuses requests from pages of other origins. NAME:
further host names by which the server is known.
"""

from tasks.runtime.importing import importing

with importing():
    import sys

    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    import deployments.server.bulk_endpoint  # noqa: F401  # registers its route  # pyright: ignore[reportUnusedImport]
    from deployments.server.same_origin import SameOrigin


def main(address: str, port: int, names: list[str]) -> None:
    """Serve until SIGTERM or SIGINT, as `prefect server start` does."""
    server = get_current_settings().server
    uvicorn.run(
        SameOrigin(create_app(final=True), names),
        host=address,
        port=port,
        timeout_keep_alive=server.api.keepalive_timeout,
        ws_ping_interval=server.api.websocket_ping_interval,
        ws_ping_timeout=server.api.websocket_ping_timeout,
        log_level=server.logging_level.lower(),
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
