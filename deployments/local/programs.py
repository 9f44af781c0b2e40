"""The command line and the environment of each program that `up` starts."""

import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from deployments.server.environment import environment, prefect_home
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.settings import (
    Settings,
    client_environment,
    one_certificate,
    own_environment,
)

HOST = "127.0.0.1"
OWNER = "PREFECTURE_WORKER"
"""Variable in the environment of all processes of `up`, by which they are found; no setting."""

# Seconds between two polls of the queues. Our worker also polls at once when a run is submitted or
# due, or a slot becomes free; this is for changes that do not notify it. A poll costs the server
# 20 ms, which was a third of all that it did while idle.
_POLL = "5"
_WORKER_HEARTBEAT = "5"  # seconds: a worker that is gone must be noticed soon
_GATEWAY_BESIDE = 80  # ports from the server's to the gateway's
_LAST_PORT = 65535
_CSRF = "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED"
_CLIENT_CSRF = "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED"
# Of a request: the supervisor and the notifier themselves repeat their queries every few seconds.
_RETRIES = "2"


class Owners(NamedTuple):
    """The value of OWNER for each program, by which its processes are found."""

    worker: str
    """The worker and, by inheritance, its jobs."""
    server: str
    platform: str
    """The platform's worker and its flows."""
    notifier: str
    supervisor: str
    gateway: str


def owners(worker: str) -> Owners:
    """The values of OWNER for a worker and its accompanying programs."""
    return Owners(worker, *(f"{worker}/{name}" for name in Owners._fields[1:]))


def server(port: int, settings: Settings, host: str = HOST, *, services: bool = True) -> list[str]:
    """Command line of the server: Prefect's own, with our additions. `services`: see `services`."""
    more = [] if services else ["--no-services"]
    listeners = _listeners(port, settings, host)
    return [sys.executable, "-m", "deployments.server.program", *listeners, *more]


def services() -> list[str]:
    """Command line of the background services of several servers."""
    return _prefect("server", "services", "start")


def bounded(argv: list[str]) -> list[str]:
    """Command line that runs one of Prefect's own programs, and ends it in time at a signal."""
    return [sys.executable, "-m", "deployments.local.bounded", *argv]


def migrate() -> list[str]:
    """Command line of the program that brings the server's database up to date."""
    return [sys.executable, "-m", "deployments.server.migrate"]


def gateway_port(settings: Settings, port: int) -> int:
    """The port of the gateway beside a server at `port`; 0 where there is to be none."""
    if settings.gateway_port is not None:
        return settings.gateway_port
    beside = port + _GATEWAY_BESIDE
    return beside if beside <= _LAST_PORT else port - _GATEWAY_BESIDE


def gateway_url(settings: Settings, api_url: str) -> str:
    """The address of the gateway beside the server at an address, as a browser reaches it."""
    port = gateway_port(settings, urlsplit(api_url).port or 0)
    if settings.bind is None:
        return f"http://{HOST}:{port}"
    host = f"[{settings.bind}]" if ":" in str(settings.bind) else str(settings.bind)
    return f"{'https' if settings.tls_certificate else 'http'}://{host}:{port}"


def gateway(port: int, settings: Settings, host: str = HOST) -> list[str]:
    """Command line of the gateway."""
    return [sys.executable, "-m", "deployments.gateway", *_listeners(port, settings, host)]


def _listeners(port: int, settings: Settings, host: str) -> list[str]:
    """The arguments of a server: see deployments/serving/listeners.py."""
    names = _listed(settings.server_hosts)
    outside = list[str]()
    if settings.bind:
        names.append(str(settings.bind))
        outside += ["--bind", str(settings.bind)]
    if settings.tls_certificate and settings.tls_key:
        outside += ["--certificate", str(settings.tls_certificate), "--key", str(settings.tls_key)]
    return [host, str(port), *(word for name in names for word in ("--name", name)), *outside]


def server_env(settings: Settings, worker: str) -> dict[str, str]:
    """Environment of the server, with its own settings, which no other program gets."""
    own = {OWNER: owners(worker).server, "PREFECT_HOME": str(prefect_home(settings))}
    return environment(settings) | own


def without_csrf_tokens(server: Mapping[str, str]) -> dict[str, str]:
    """Settings of the clients of a server with the environment `server`.

    Each of Prefect's clients, of which a job has two that write, would ask for a CSRF token first,
    which the server does not give unless it is told to: it checks the origin of requests instead.
    """
    wanted = server.get(_CSRF, "false").lower() in ("1", "true", "t", "yes", "y", "on")
    return {} if wanted or _CLIENT_CSRF in client_environment() else {_CLIENT_CSRF: "false"}


def worker(pool: Pool, name: str, slots: int, settings: Settings) -> list[str]:
    """Command line of a worker that runs `slots` jobs at once."""
    # By module name: deployments must not import work_pools.
    return [
        *(sys.executable, "-m", "work_pools.worker", "--pool", pool, "--name", name),
        *("--limit", str(slots), "--standby", str(settings.standby)),
        *("--reuse", str(settings.reuse)),
        *(("--low-waits", str(settings.low_waits)) if settings.low_waits else ()),
        *(("--fair-share", str(settings.fair_share)) if settings.fair_share else ()),
        *(["--network", settings.job_network] if settings.job_network else []),
        *(word for host in settings.hosts_of_jobs for word in ("--reach", host)),
        *(("--broker", str(settings.home / "broker" / name)) if settings.broker else ()),
        *(("--memory", str(int(settings.host_memory))) if settings.host_memory else ()),
        *(("--cpus", str(settings.host_cpus)) if settings.host_cpus else ()),
        *(("--gpus", settings.host_gpus) if settings.host_gpus else ()),
        *(word for name in _listed(settings.host_labels) for word in ("--label", name)),
    ]


def worker_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """Environment of the worker, which its jobs inherit."""
    return client_environment(
        **{OWNER: owners(worker).worker},
        PREFECT_HOME=str(prefect_home(settings)),
        PREFECT_API_URL=api_url,
        PREFECT_WORKER_QUERY_SECONDS=_POLL,
        # A run that is not due must not hold a slot that a waiting one could use.
        PREFECT_WORKER_PREFETCH_SECONDS="0",
        PREFECT_WORKER_HEARTBEAT_SECONDS=_WORKER_HEARTBEAT,
        DO_NOT_TRACK="1",
    )


def supervisor(pool: Pool, worker: str) -> list[str]:
    """Command line of the supervisor of a worker."""
    return [sys.executable, "-m", "work_pools.supervisor", "--pool", pool, "--worker", worker]


def supervisor_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """Environment of the supervisor, with our settings."""
    return _own_env(settings, owners(worker).supervisor, api_url)


def notifier() -> list[str]:
    """Command line of the notifier, of which each home has one."""
    return [sys.executable, "-m", "deployments.notifications"]


def notifier_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """Environment of the notifier, with our settings."""
    return _own_env(settings, owners(worker).notifier, api_url)


def gateway_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """Environment of the gateway, with our settings."""
    return _own_env(settings, owners(worker).gateway, api_url)


def platform() -> list[str]:
    """Command line of the platform's worker, which runs one flow at a time: all are short."""
    name = f"{socket.gethostname()}-{PLATFORM_POOL}"
    return _prefect(
        *("worker", "start", "--pool", PLATFORM_POOL, "--type", Pool.PROCESS, "--name", name),
        *("--limit", "1", "--install-policy", "never"),
    )


def platform_env(
    settings: Settings, worker: str, api_url: str, slots: int | None
) -> dict[str, str]:
    """Environment of the platform's worker, with our settings, which its flows inherit."""
    known = settings.slots or slots
    return _own_env(settings, owners(worker).platform, api_url) | {
        "PREFECT_WORKER_QUERY_SECONDS": _POLL,
        "PREFECT_WORKER_PREFETCH_SECONDS": "0",
        **({"PREFECTURE_SLOTS": str(known)} if known else {}),
    }


def _own_env(settings: Settings, owner: str, api_url: str) -> dict[str, str]:
    return own_environment(
        **{OWNER: owner},
        PREFECTURE_HOME=str(settings.home),
        PREFECTURE_INPUTS_ROOT=str(settings.inputs),
        PREFECTURE_RESULTS_ROOT=str(settings.results),
        PREFECT_HOME=str(prefect_home(settings)),
        PREFECT_API_URL=api_url,
        PREFECT_CLIENT_MAX_RETRIES=_RETRIES,
        DO_NOT_TRACK="1",
        **({"PREFECT_API_SSL_CERT_FILE": one} if (one := one_certificate(api_url)) else {}),
    )


def log(settings: Settings, name: str) -> Path:
    """The file for the output of a program."""
    return settings.home / "logs" / f"{name}.log"


def _listed(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", "--no-prompt", *words]
