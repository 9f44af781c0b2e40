"""Where other machines reach the embedded server: nowhere, unless the operator says so."""

import errno
import socket
import ssl

from deployments.local.programs import HOST
from tasks.errors import OperatorError
from tasks.settings import Settings


def check_outside(settings: Settings, *, insecure: bool) -> None:
    """Check that PREFECTURE_BIND can be served. `insecure`: without TLS.

    Raises OperatorError where the password would be sent in readable form, where the certificate
    does not fit, and where the address means every one of this host.
    """
    certificate, key = settings.tls_certificate, settings.tls_key
    if settings.bind is None:
        if certificate or key or insecure:
            given = "--insecure" if insecure else "a certificate"
            raise OperatorError(f"{given} is for PREFECTURE_BIND, which names no address")
        return
    if settings.bind.is_unspecified:
        raise OperatorError(
            f"PREFECTURE_BIND={settings.bind}: name one address of this host, such as that of its "
            "private network"
        )
    if insecure and not (certificate or key):
        return
    if certificate is None or key is None:
        raise OperatorError(
            f"PREFECTURE_BIND={settings.bind} would send the password in readable form: set "
            "PREFECTURE_TLS_CERTIFICATE and PREFECTURE_TLS_KEY, or start with --insecure, behind a "
            "proxy with TLS or in a network that you trust"
        )
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise OperatorError(
            f"the certificate {certificate} with the key {key} cannot be used: {error}"
        ) from error


def check_host(settings: Settings, host: str, *, insecure: bool) -> None:
    """Check that a server may listen at `host`, and at PREFECTURE_BIND: see check_outside."""
    if host == HOST:
        return check_outside(settings, insecure=insecure)
    if settings.bind is not None:
        raise OperatorError(f"--host {host} and PREFECTURE_BIND={settings.bind}: name one of both")
    if not insecure:
        raise OperatorError(
            f"--host {host} would send the password in readable form: add --insecure, behind a "
            "proxy with TLS or in a network that you trust, or use PREFECTURE_BIND with a "
            "certificate"
        )


def outside_url(settings: Settings, port: int) -> str:
    """The address of the API for other machines."""
    scheme = "https" if settings.tls_certificate else "http"
    host = f"[{settings.bind}]" if ":" in str(settings.bind) else str(settings.bind)
    return f"{scheme}://{host}:{port}/api"


def refuse_busy_port(settings: Settings, port: int, host: str = HOST) -> None:
    """Raise OperatorError where a server cannot listen at a port of `host`, and of PREFECTURE_BIND
    where that is set."""
    for address in (host, *([str(settings.bind)] if settings.bind else [])):
        refuse_busy(address, port)


def refuse_busy(address: str, port: int) -> None:
    """Raise OperatorError where nothing can listen at an address and port of this host."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            reason = (
                "is in use, by another Prefect server perhaps: stop that, or choose another port "
                "with --port"
                if error.errno == errno.EADDRINUSE
                else f"cannot be listened at: {error.strerror}"
            )
            raise OperatorError(f"{address}:{port} {reason}") from None
