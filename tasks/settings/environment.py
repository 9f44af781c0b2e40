"""What processes see of the environment, ours and those that we start."""

import ctypes
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

# What a worker, and so a job of the process pool, may see of the host's environment: enough to
# find programs, certificates, the time zone and the Docker engine. Prefect's worker hands its whole
# environment on to every process job, so a secret that is not here cannot leak into one.
_PASSED_ON = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    | {"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"}
)
# One by one: PREFECT_API_DATABASE_PASSWORD and its like are old names of server settings.
_CLIENT_SETTINGS = frozenset(
    {"PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING", "PREFECT_API_SSL_CERT_FILE"}
    | {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "PREFECT_API_ENABLE_HTTP2"}
    | {"PREFECT_API_REQUEST_TIMEOUT"}
)
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""In a job's environment, by Prefect's workers: which flow run it is of."""
SHARED_VARIABLE = "PREFECTURE__SHARED_CONTAINER"
"""In a job's environment: its container serves other jobs before it, or after."""
RESULT_BLOCK_VARIABLE = "PREFECTURE__RESULT_BLOCK"
"""In a job's environment, by `prefecture apply`: the id of the block that keeps return values."""
# A certificate of nobody: its key was never kept.
_NO_ONE = Path(__file__).with_name("no_one.pem")


def own_environment(**extra: str) -> dict[str, str]:
    """The environment for a process of ours that reads the settings: as a client's, and `extra`."""
    own = {k: v for k, v in os.environ.items() if k.startswith(("PREFECTURE_", "BASE_IMAGE"))}
    return client_environment(**own | extra)


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that we start: what is needed of ours, and `extra`."""
    return {k: v for k, v in os.environ.items() if k in _PASSED_ON} | extra


def client_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that talks to a Prefect API: how to reach it, and `extra`."""
    own = {
        k: v
        for k, v in os.environ.items()
        if k in _CLIENT_SETTINGS or k.startswith("PREFECT_CLIENT_")
    }
    return child_environment(**own | extra)


def server_environment(**extra: str) -> dict[str, str]:
    """The environment for the Prefect server: as for any child, and the server's own settings."""
    own = {k: v for k, v in os.environ.items() if k.startswith("PREFECT_SERVER_")}
    return child_environment(**own | extra)


def api_url() -> str | None:
    """The Prefect API that this process was told to use, by the environment."""
    return os.environ.get("PREFECT_API_URL")


def engine_socket() -> Path | None:
    """The socket of the Docker engine that the environment names; None where that is none."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    path = Path(host.removeprefix("unix://"))
    return path if host.startswith("unix://") and path.is_socket() else None


def flow_run_id() -> UUID:
    """The flow run that this process was started for: Prefect's workers say it by this variable."""
    return UUID(os.environ[RUN_VARIABLE])


def has_process_of_its_own() -> bool:
    """Whether this process was started for one flow run alone."""
    return RUN_VARIABLE in os.environ


def is_in_shared_container() -> bool:
    """Whether the container that this process runs in serves other jobs before, or after."""
    return SHARED_VARIABLE in os.environ


def result_block_id() -> UUID | None:
    """The saved block of return values; None where no `prefecture apply` has named one."""
    value = os.environ.get(RESULT_BLOCK_VARIABLE)
    return UUID(value) if value else None


def adopt(variables: Mapping[str, str]) -> None:
    """Make variables part of this process's environment: it was started before they were known.

    Where it was started with another flow run's id, whoever reads its environment from outside
    reads the new one from now on: what the kernel shows is the memory that the process began with.
    """
    begun: Any = ctypes.CDLL(None).getenv
    begun.restype = ctypes.c_void_p
    place = begun(RUN_VARIABLE.encode())
    run = variables.get(RUN_VARIABLE, "")
    if place and len(os.environ.get(RUN_VARIABLE, "")) == len(run):
        ctypes.memmove(place, run.encode(), len(run))
    os.environ.update(variables)


@contextmanager
def imports_start_no_thread() -> Generator[None]:
    """While the block runs, numpy and pyarrow are imported without the threads of OpenBLAS and of
    jemalloc: a process with threads cannot fork safely. They stay without them."""
    wanted = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
    before = dict(os.environ)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name in wanted:
            if name in before:
                os.environ[name] = before[name]
            else:
                del os.environ[name]


def spare_the_client() -> None:
    """Spare Prefect's client in this process what it does without need. Before it is imported.

    A job has six clients. Each makes a TLS context, and loads all 140 certificates of certifi for
    it, 30 ms of CPU, even where the API is plain http: there one certificate will do. And it asks
    the server for its version, which the worker has done.
    """
    os.environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")
    if (api_url() or "").startswith("http://"):
        os.environ.setdefault("PREFECT_API_SSL_CERT_FILE", str(_NO_ONE))
