"""The environment of this process, and of the processes that it starts."""

import ctypes
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

# The variables of the host that a worker, and so a job of the process pool, may see: enough to find
# programs, certificates, the time zone and the Docker engine. Prefect's worker passes its whole
# environment to every process job: a secret that is not listed here cannot leak into a job.
_PASSED_ON = frozenset(
    {"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"}
    | {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
    | {"DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_CONTEXT"}
)
AUTH_VARIABLE = "PREFECT_API_AUTH_STRING"
"""In an environment: user and password for the Prefect API; in a job's, the token of its run."""
# Not by prefix: PREFECT_API_DATABASE_PASSWORD and others are old names of server settings.
_CLIENT_SETTINGS = frozenset(
    {"PREFECT_API_URL", "PREFECT_API_KEY", AUTH_VARIABLE, "PREFECT_API_SSL_CERT_FILE"}
    | {"PREFECT_API_TLS_INSECURE_SKIP_VERIFY", "PREFECT_API_ENABLE_HTTP2"}
    | {"PREFECT_API_REQUEST_TIMEOUT"}
)
# Of commands alone. No program that they start needs a user's token, and some start jobs with what
# they have in their environment.
_OF_A_USER = frozenset({"PREFECTURE_URL", "PREFECTURE_TOKEN"})
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""In a job's environment, set by Prefect's workers: the id of its flow run."""
SHARED_VARIABLE = "PREFECTURE__SHARED_CONTAINER"
"""In a job's environment: its container serves other jobs too, before or after it."""
GPUS_VARIABLE = "PREFECTURE__GPUS"
"""In the environment of a job: the ids of the GPUs that it has for itself, with commas."""
NETWORK_VARIABLE = "PREFECTURE__NETWORK"
"""In a job's environment: what it may connect to, the job variable `network`."""
REACHED_VARIABLE = "PREFECTURE__JOB_HOSTS"
"""In the environment of a job in the closed network: the hosts that it reaches besides the server,
as HOST:PORT with commas."""
STAGE_VARIABLE = "PREFECTURE__STAGE"
"""In a job's environment: the last part of the name of its stage, which is there already."""
RESULT_BLOCK_VARIABLE = "PREFECTURE__RESULT_BLOCK"
"""In a job's environment, set by `prefecture apply`: id of the block that keeps return values."""
_OF_THE_SERVER = frozenset({"PREFECTURE_DATABASE_URL", "PREFECTURE_REDIS_URL"})  # secrets
_CERTIFICATES = "PREFECT_API_SSL_CERT_FILE"
_UNVERIFIED = "PREFECT_API_TLS_INSECURE_SKIP_VERIFY"
_KEY = "PREFECT_API_KEY"
# A certificate whose private key was never kept.
_ONE_CERTIFICATE = Path(__file__).with_name("no_one.pem")


def own_environment(**extra: str) -> dict[str, str]:
    """The environment for a process that reads the settings: a client's, the settings but those of
    the server, `extra`."""
    own = {
        k: v
        for k, v in os.environ.items()
        if k.startswith(("PREFECTURE_", "BASE_IMAGE")) and k not in _OF_THE_SERVER | _OF_A_USER
    }
    return client_environment(**own | extra)


def child_environment(**extra: str) -> dict[str, str]:
    """The environment for a started process: the few variables in _PASSED_ON, and `extra`."""
    return {k: v for k, v in os.environ.items() if k in _PASSED_ON} | extra


def client_environment(**extra: str) -> dict[str, str]:
    """The environment for a client of a Prefect API: a child's, the client's settings, `extra`."""
    own = {
        k: v
        for k, v in os.environ.items()
        if k in _CLIENT_SETTINGS or k.startswith("PREFECT_CLIENT_")
    }
    return child_environment(**own | extra)


def server_environment(**extra: str) -> dict[str, str]:
    """The environment for the Prefect server: a child's, the server's settings, `extra`."""
    own = {
        k: v for k, v in os.environ.items() if k.startswith(("PREFECT_SERVER_", "PREFECT_REDIS_"))
    }
    return child_environment(**own | extra)


def api_url() -> str | None:
    """The address of the Prefect API in the environment; None where there is none."""
    return os.environ.get("PREFECT_API_URL")


def configuration_folder() -> Path:
    """The folder of a user's own configuration of Prefecture, as XDG has it. It may not exist."""
    given = Path(os.environ.get("XDG_CONFIG_HOME") or "")
    base = given if given.is_absolute() else Path("~/.config").expanduser()
    return base / "prefecture"


def api_certificates() -> str | bool:
    """The file of certificates with which the Prefect API is verified, as Prefect's client has it;
    True for the usual ones, False where it is not verified."""
    if os.environ.get(_UNVERIFIED, "").lower() in ("1", "true", "t", "yes", "y", "on"):
        return False
    return os.environ.get(_CERTIFICATES) or True


def api_key() -> str | None:
    """The key for the Prefect API in the environment; None where there is none."""
    return os.environ.get(_KEY)


def engine_socket() -> Path | None:
    """The Docker engine's socket, by DOCKER_HOST; None where it is no socket on this host."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    path = Path(host.removeprefix("unix://"))
    return path if host.startswith("unix://") and path.is_socket() else None


def api_auth() -> str | None:
    """User and password for the Prefect API in the environment; None where there are none."""
    return os.environ.get(AUTH_VARIABLE)


def flow_run_id() -> UUID:
    """The id of the flow run that this process was started for. Raises KeyError where none is."""
    return UUID(os.environ[RUN_VARIABLE])


def has_process_of_its_own() -> bool:
    """Whether this process was started for one flow run only."""
    return RUN_VARIABLE in os.environ


def is_in_shared_container() -> bool:
    """Whether the container of this process serves other jobs too, before or after."""
    return SHARED_VARIABLE in os.environ


def gpus() -> list[str]:
    """The ids of the GPUs that this job has for itself."""
    return [id for id in os.environ.get(GPUS_VARIABLE, "").split(",") if id]


def network() -> str | None:
    """What this job may connect to; None where nothing is said."""
    return os.environ.get(NETWORK_VARIABLE)


def reached_hosts() -> list[str] | None:
    """The hosts that this job reaches besides the server, as HOST:PORT; None where it is in no
    closed network."""
    listed = os.environ.get(REACHED_VARIABLE)
    return None if listed is None else [host for host in listed.split(",") if host]


def stage_token() -> str | None:
    """The last part of the name of this process's stage; None where there is none yet."""
    return os.environ.get(STAGE_VARIABLE)


def result_block_id() -> UUID | None:
    """The id of the block that keeps return values; None before `prefecture apply`."""
    value = os.environ.get(RESULT_BLOCK_VARIABLE)
    return UUID(value) if value else None


def adopt(variables: Mapping[str, str]) -> None:
    """Add variables to the environment of a process that was started before they were known.

    A flow run's id that the process was started with is also overwritten in its initial memory:
    that memory is the environment which the kernel shows to other processes.
    """
    getenv: Any = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    place = getenv(RUN_VARIABLE.encode())
    run = variables.get(RUN_VARIABLE, "")
    if place and len(os.environ.get(RUN_VARIABLE, "")) == len(run):
        ctypes.memmove(place, run.encode(), len(run))
    os.environ.update(variables)


@contextmanager
def imports_start_no_thread() -> Generator[None]:
    """Import numpy and pyarrow in the block without the threads of OpenBLAS and jemalloc, now and
    later: a process with threads cannot fork safely."""
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


def silence_libvips() -> None:
    """Have libvips print no warnings of its own. Call this before it is imported."""
    os.environ.setdefault("VIPS_WARNING", "1")


def spare_the_client() -> None:
    """Switch off needless work of Prefect's client. Call this before the client is imported.

    Each of a job's clients would also ask the server for its version, which the worker has done.
    """
    os.environ.setdefault("PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED", "false")
    if certificate := one_certificate(api_url()):
        os.environ[_CERTIFICATES] = certificate


def one_certificate(api: str | None) -> str | None:
    """PREFECT_API_SSL_CERT_FILE for an API whose address is plain http; None to leave it as it is.

    Each of Prefect's clients makes a TLS context with all 140 certificates of certifi, 10 ms of CPU
    or more, though it has nothing to verify there; a job has nine clients, and a command two.
    """
    plain = (api or "").startswith("http://")
    return str(_ONE_CERTIFICATE) if plain and not os.environ.get(_CERTIFICATES) else None
