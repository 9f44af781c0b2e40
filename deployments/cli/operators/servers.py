"""Commands that run Prefect's server in parts: several API servers, and the services apart."""

import os
from collections.abc import Mapping, Sequence
from typing import Never

from deployments.local import programs
from deployments.local.encryption import key_setting
from deployments.local.outside import check_host, refuse_busy_port
from deployments.password import SERVER_VARIABLE, server_password
from deployments.server.environment import environment, is_shared, prefect_home
from tasks.errors import OperatorError
from tasks.settings import Settings, api_auth, get_settings, make_home, make_private_folder


def server(
    *,
    host: str = programs.HOST,
    port: int = 4200,
    services: bool = True,
    insecure: bool = False,
) -> None:
    """Run an API server with the UI, and nothing else: `prefecture up` runs one with all the rest.

    Runs in the foreground, at --host and, where it is set, at PREFECTURE_BIND. Several run with one
    PREFECTURE_DATABASE_URL, PREFECTURE_REDIS_URL and PREFECT_API_AUTH_STRING.

    Example: `prefecture server --no-services --port 4201`

    Parameters
    ----------
    host
        Where it listens. Another address than that of this host alone needs --insecure.
    port
        Where it listens.
    services
        Also run the background services, for a server that is the only one. With --no-services,
        `prefecture migrate` prepares the database and `prefecture services` runs them.
    insecure
        Listen without TLS on --host or PREFECTURE_BIND: behind a proxy, or in a network that you
        trust.
    """
    settings = get_settings()
    check_host(settings, host, insecure=insecure)
    env = _environment(settings, apart=not services)
    refuse_busy_port(settings, port, host)
    _become(programs.server(port, settings, host, services=services), env)


def services() -> None:
    """Run the background services of API servers that were started with --no-services.

    Runs in the foreground. Two may run: each does a part.

    Example: `prefecture services`
    """
    _become(programs.bounded(programs.services()), _environment(get_settings(), apart=True))


def migrate() -> None:
    """Bring the database of the server up to date, before servers with --no-services start.

    Idempotent. `prefecture up` and a server that is the only one do it by themselves.

    Example: `prefecture migrate`
    """
    _become(programs.migrate(), _environment(get_settings(), apart=False))


def _environment(settings: Settings, *, apart: bool) -> dict[str, str]:
    """The environment of a server. Raises OperatorError where `apart` cannot be."""
    make_home(settings.home)
    make_private_folder(prefect_home(settings))
    env = environment(settings, apart=apart) | {"PREFECT_HOME": str(prefect_home(settings))}
    if apart and not is_shared(env):
        raise OperatorError(
            "services that run apart need a database and a Redis: set PREFECTURE_DATABASE_URL and "
            "PREFECTURE_REDIS_URL"
        )
    if auth := api_auth():
        env.setdefault(SERVER_VARIABLE, auth)
    if apart and SERVER_VARIABLE not in env:
        raise OperatorError(
            "several servers have one password: set PREFECT_API_AUTH_STRING to user:password on "
            "every host"
        )
    env |= key_setting(settings, env)
    return env | {SERVER_VARIABLE: server_password(settings, env)}


def _become(argv: Sequence[str], env: Mapping[str, str]) -> Never:
    os.execve(argv[0], [*argv], {**env})
