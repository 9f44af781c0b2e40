"""Connection of the two trusted flows to the Docker engine, with its errors as our own."""

from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException

from tasks.contracts import ENGINE_SOCKET, NO_ENGINE, RUN_HEADER
from tasks.errors import EngineUnavailable, InvalidPayload
from tasks.settings import api_auth, api_key, flow_run_id

_TIMEOUT = 60  # seconds for one answer
_SERVER_ERROR = 500


@contextmanager
def connect(timeout: float = _TIMEOUT) -> Generator[docker.DockerClient]:
    """A client for the engine, by the socket that this flow's container has; `timeout` in seconds.

    That socket is the broker's, which asks whose request it is. Raises InvalidPayload where there
    is no socket, EngineUnavailable where no engine answers.
    """
    if not Path(ENGINE_SOCKET).is_socket():
        raise InvalidPayload(NO_ENGINE)
    with engine_outages():
        client = docker.DockerClient(base_url=f"unix://{ENGINE_SOCKET}", timeout=round(timeout))
    api(client).headers.update(credentials())
    try:
        yield client
    finally:
        client.close()


def credentials() -> dict[str, str]:
    """The headers by which the broker knows this flow run: its id, and its token."""
    own = {RUN_HEADER: str(flow_run_id())}
    if auth := api_auth():
        own["Authorization"] = f"Basic {b64encode(auth.encode()).decode()}"
    elif key := api_key():
        own["Authorization"] = f"Bearer {key}"
    return own


@contextmanager
def engine_outages() -> Generator[None]:
    """Raise EngineUnavailable for server errors of the engine, and where it does not answer."""
    try:
        yield
    except APIError as error:
        if error.status_code is not None and error.status_code < _SERVER_ERROR:
            raise
        raise EngineUnavailable(f"the Docker engine fails: {explained(error)}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise EngineUnavailable(f"the Docker engine does not answer: {error}") from error
    except DockerException as error:
        raise EngineUnavailable(f"the Docker engine does not answer: {error}") from error


@contextmanager
def engine_call(what: str) -> Generator[None]:
    """Like `engine_outages`; also raise InvalidPayload, with `what`, where the engine refuses."""
    try:
        with engine_outages():
            yield
    except APIError as error:
        raise InvalidPayload(f"{what}: the Docker engine refuses: {explained(error)}") from error


def explained(error: APIError) -> str:
    """The engine's message for an error, in one line of at most 300 characters."""
    return " ".join(str(error.explanation or error).split())[:300]


def api(client: docker.DockerClient) -> Any:
    """The client's low-level API, without types."""
    return client.api  # its stubs leave most of its methods untyped
