"""The connection of commands and programs to the Prefect server."""

import os
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Never
from urllib.parse import urlsplit

import httpx
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    temporary_settings,
)

from deployments.gateway_login import LOOPBACK, need_operator
from deployments.password import read_password
from tasks.errors import OperatorError, ServerUnavailable
from tasks.settings import (
    AUTH_VARIABLE,
    api_url,
    get_settings,
    make_home,
    make_private_folder,
    one_certificate,
)

_DEFAULT_API = "http://127.0.0.1:4200/api"  # where `prefecture up` listens
_NOT_ADMITTED = (401, 403)
_ADDRESS_FILE = "api_url"  # in a home: the address of the server that its `up` has started


def server_api() -> str:
    """The address of the API: PREFECT_API_URL, or that of the server started by the home's `up`."""
    api = api_url() or _of_home()
    if api is None:
        need_operator("this command")
    return api or _DEFAULT_API


@contextmanager
def known_in_home(home: Path, api: str) -> Generator[None]:
    """Let commands of the same home find a server without PREFECT_API_URL, for the block's time."""
    file = home / _ADDRESS_FILE
    file.write_text(api)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _of_home() -> str | None:
    with suppress(FileNotFoundError):  # none is up, or it was started elsewhere
        return (get_settings().home / _ADDRESS_FILE).read_text()
    return None


def settings_for(api: str) -> dict[Any, Any]:
    """Prefect's settings for clients of the server at this address."""
    settings: dict[Any, Any] = {PREFECT_API_URL: api}
    if password := _home_password(api):
        settings[PREFECT_API_AUTH_STRING] = password
    if certificate := one_certificate(api):
        settings[PREFECT_API_SSL_CERT_FILE] = certificate
    return settings


def become(argv: Sequence[str], environment: Mapping[str, str]) -> Never:
    """Replace this process by a program that is a client of the server at `server_api()`."""
    password = _home_password(server_api())
    own = {AUTH_VARIABLE: password} if password else {}
    make_home(get_settings().home)
    make_private_folder(Path(environment["PREFECT_HOME"]))
    os.execve(argv[0], [*argv], {**environment, **own})


def _home_password(api: str) -> str | None:
    """User and password of a server that the home's `up` has started. None where the environment or
    Prefect's profile has them, which wins, and for any other server: it is sent to none."""
    if PREFECT_API_AUTH_STRING.value() or not _is_of_home(api):
        return None
    return read_password(get_settings().home)


def known_password() -> str:
    """User and password of the server at `server_api()`, as `user:password`.

    Raises OperatorError where none is known.
    """
    api = server_api()
    given = PREFECT_API_AUTH_STRING.value() or _home_password(api)
    if not given:
        raise OperatorError(
            f"no password is known for the Prefect server at {api}: start one with `prefecture "
            "up`, or set PREFECT_API_AUTH_STRING"
        )
    return str(given)


def _is_of_home(api: str) -> bool:
    own = _of_home()
    return own is not None and _place(api) == _place(own)


def is_on_loopback(api: str) -> bool:
    """Whether an address is one of this machine alone."""
    return urlsplit(api).hostname in LOOPBACK


def _place(api: str) -> tuple[str, int | None, str]:
    parts = urlsplit(api)
    host = parts.hostname or ""
    return "loopback" if host in LOOPBACK else host, parts.port, parts.path.rstrip("/")


@asynccontextmanager
async def connect(retries: int | None = None) -> AsyncGenerator[PrefectClient]:
    """A client for the server at `server_api()`; never for Prefect's temporary server.

    It retries requests that a busy or restarting server has not answered, for about a minute, or
    `retries` times. Raises ServerUnavailable where a request fails all the same.
    """
    settings = settings_for(server_api())
    if retries is not None:
        settings[PREFECT_CLIENT_MAX_RETRIES] = retries
    try:
        with temporary_settings(settings):
            async with get_client() as client:
                yield client
    except httpx.HTTPError as error:
        raise unavailable(error) from error


def unavailable(error: httpx.HTTPError) -> ServerUnavailable:
    """The error for a failed request, with the reason and the cure in one line."""
    if isinstance(error, httpx.ConnectError):
        return ServerUnavailable(
            f"no Prefect server answers at {server_api()}: start one with `prefecture up`, or set "
            "PREFECT_API_URL"
        )
    if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _NOT_ADMITTED:
        given = "other than the one in" if PREFECT_API_AUTH_STRING.value() else "and none is set in"
        return ServerUnavailable(
            f"the Prefect server at {server_api()} wants a password, {given} "
            "PREFECT_API_AUTH_STRING: set that to what `prefecture password` prints where the "
            "server runs"
        )
    first_line = str(error).partition("\n")[0] or type(error).__name__
    return ServerUnavailable(
        f"the Prefect server at {server_api()} could not answer the request: {first_line}"
    )
