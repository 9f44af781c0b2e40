"""python -m deployments.gateway ADDRESS PORT [--name NAME ...]
       [--bind ADDRESS [--certificate FILE --key FILE]]

Serves the gateway, in front of the Prefect server at PREFECT_API_URL.
NAME: a further host name by which the gateway is known.
--bind: a second address, with TLS where there is a certificate.
"""

from tasks.runtime.importing import importing

with importing():
    from deployments.gateway.app import create_app, end_streams
    from deployments.gateway.inputs import is_upload
    from deployments.serving import listeners
    from deployments.serving.admission import Admission
    from deployments.serving.large_bodies import LargeBodies
    from deployments.serving.same_origin import SameOrigin
    from tasks.settings import get_settings

LARGEST_BODY = 16 * 2**20
"""Bytes of a request's body: as many as the parameters of all jobs of one request may have."""
_AT_ONCE = 100  # requests: the Prefect server handles no more on SQLite


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    at, _ = listeners.parse("deployments.gateway")
    gateway = create_app(get_settings())
    app = Admission(gateway, _AT_ONCE, LARGEST_BODY, is_upload)
    listeners.serve(
        SameOrigin(app, at.names),
        at,
        lambda: end_streams(gateway),
        http=LargeBodies,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
