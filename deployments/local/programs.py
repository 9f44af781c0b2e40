"""The programs that keep jobs running: how each is called, and all it sees of the environment."""

import socket
import sys
from pathlib import Path
from typing import NamedTuple

from deployments.server import sqlite
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.settings import Settings, client_environment, own_environment, server_environment

HOST = "127.0.0.1"
MARK = "PREFECTURE_WORKER"
"""In the environment of all that `up` starts: whose it is. Read by nobody as a setting."""

_DATABASE = ("CONNECTION_URL", "DRIVER", "HOST", "NAME")  # settings by which one is chosen
_EVENTS_KEPT = "PREFECT_SERVER_EVENTS_RETENTION_PERIOD"
# In place of Prefect's week: events are four fifths of what a job writes into its database, and are
# read within minutes. Set the variable to keep them longer.
_A_DAY = "P1D"
# In place of an hour: so far ahead Prefect puts the runs of schedules into its list, and there is a
# schedule of every minute. It looks every minute.
_SCHEDULED_AHEAD = "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_SCHEDULED_TIME"
_TEN_MINUTES = "PT10M"
# Seconds between two looks into the queues. For what our worker does not hear of: a run submitted
# and a slot that is free make it look at once, and each look costs the server 20 ms.
_POLL = "2"
_PLATFORM_POLL = "2"
_WORKER_HEARTBEAT = "5"  # seconds: a worker that is gone is to be noticed soon
_RETRIES = (
    "2"  # of a request: the supervisor and the notifier look again every few seconds by themselves
)


class Marks(NamedTuple):
    """The value of MARK in the environment of each program, by which its processes are found."""

    worker: str
    """Of the worker and, inherited, of its jobs."""
    server: str
    platform: str
    """Of the platform's worker and its flows."""
    notifier: str
    supervisor: str


def marks(worker: str) -> Marks:
    """The marks of the programs that stand beside a worker, in the order of their start."""
    return Marks(worker, *(f"{worker}/{name}" for name in Marks._fields[1:]))


def server(port: int) -> list[str]:
    """The embedded server: Prefect's own, with an endpoint of ours."""
    words = ("server", "start", "--host", HOST, "--port", str(port))
    return _prefect(*words, module="deployments.server.program")


def server_env(settings: Settings, worker: str) -> dict[str, str]:
    """The server's, with its own settings, which no one else sees."""
    usual = {_EVENTS_KEPT: _A_DAY, _SCHEDULED_AHEAD: _TEN_MINUTES}
    environment = usual | server_environment(
        **{MARK: marks(worker).server},
        PREFECT_HOME=_prefect_home(settings),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # It renames each job that waits for 15 s, one by one: with a thousand of them SQLite is
        # locked all the time, and the log grows by megabytes a minute.
        PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED="false",
        # Else the UI asks port 4200, whichever port it is served on.
        PREFECT_UI_API_URL="/api",
        DO_NOT_TRACK="1",
    )
    if not any(f"PREFECT_SERVER_DATABASE_{name}" in environment for name in _DATABASE):
        address = sqlite.address(f"{_prefect_home(settings)}/prefect.db")
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = address
    return environment


def worker(pool: Pool, name: str, slots: int, settings: Settings) -> list[str]:
    """A worker that runs so many jobs at once."""
    # By name: what stands beside us is not ours to import.
    return [
        *(sys.executable, "-m", "work_pools.worker", "--pool", pool, "--name", name),
        *("--limit", str(slots), "--standby", str(settings.standby)),
        *("--reuse", str(settings.reuse)),
    ]


def worker_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """The worker's, which its jobs inherit."""
    return client_environment(
        **{MARK: marks(worker).worker},
        PREFECT_HOME=_prefect_home(settings),
        PREFECT_API_URL=api_url,
        PREFECT_WORKER_QUERY_SECONDS=_POLL,
        # A run that is not due must not hold a slot that a waiting one could use.
        PREFECT_WORKER_PREFETCH_SECONDS="0",
        PREFECT_WORKER_HEARTBEAT_SECONDS=_WORKER_HEARTBEAT,
        DO_NOT_TRACK="1",
    )


def supervisor(pool: Pool, worker: str) -> list[str]:
    """The supervisor beside a worker."""
    return [sys.executable, "-m", "work_pools.supervisor", "--pool", pool, "--worker", worker]


def supervisor_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """The supervisor's: it reads our settings."""
    return _own_env(settings, marks(worker).supervisor, api_url)


def notifier() -> list[str]:
    """The notifier, one for each home."""
    return [sys.executable, "-m", "deployments.notifications"]


def notifier_env(settings: Settings, worker: str, api_url: str) -> dict[str, str]:
    """The notifier's: it reads our settings."""
    return _own_env(settings, marks(worker).notifier, api_url)


def platform() -> list[str]:
    """The worker of the platform's own flows, one at a time: they are short, and can wait."""
    name = f"{socket.gethostname()}-{PLATFORM_POOL}"
    return _prefect(
        *("worker", "start", "--pool", PLATFORM_POOL, "--type", Pool.PROCESS, "--name", name),
        *("--limit", "1", "--install-policy", "never"),
    )


def platform_env(
    settings: Settings, worker: str, api_url: str, slots: int | None
) -> dict[str, str]:
    """That worker's, which its flows inherit: they read our settings."""
    known = settings.slots or slots
    return _own_env(settings, marks(worker).platform, api_url) | {
        "PREFECT_WORKER_QUERY_SECONDS": _PLATFORM_POLL,
        "PREFECT_WORKER_PREFETCH_SECONDS": "0",
        **({"PREFECTURE_SLOTS": str(known)} if known else {}),
    }


def _own_env(settings: Settings, mark: str, api_url: str) -> dict[str, str]:
    return own_environment(
        **{MARK: mark},
        PREFECTURE_HOME=str(settings.home),
        PREFECTURE_INPUTS_ROOT=str(settings.inputs),
        PREFECTURE_RESULTS_ROOT=str(settings.results),
        PREFECT_HOME=_prefect_home(settings),
        PREFECT_API_URL=api_url,
        PREFECT_CLIENT_MAX_RETRIES=_RETRIES,
        DO_NOT_TRACK="1",
    )


def log(settings: Settings, name: str) -> Path:
    """Where a program's output goes."""
    return settings.home / "logs" / f"{name}.log"


def _prefect(*words: str, module: str = "prefect") -> list[str]:
    return [sys.executable, "-m", module, "--no-prompt", *words]


def _prefect_home(settings: Settings) -> str:
    return str(settings.home / "prefect")
