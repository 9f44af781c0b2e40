"""The Docker engine, as the two trusted flows reach it; its refusals and failures as one line."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException

from tasks.contracts import ENGINE_SOCKET, NO_ENGINE
from tasks.errors import EngineUnavailable, InvalidPayload

_TIMEOUT = 60  # seconds for one answer
_SERVER_ERROR = 500


@contextmanager
def connect(timeout: float = _TIMEOUT) -> Generator[docker.DockerClient]:
    """A client for the engine whose socket this flow was given; `timeout` in seconds.

    Raises InvalidPayload where it was given none, EngineUnavailable where none answers.
    """
    if not Path(ENGINE_SOCKET).is_socket():
        raise InvalidPayload(NO_ENGINE)
    with away():
        client = docker.DockerClient(base_url=f"unix://{ENGINE_SOCKET}", timeout=round(timeout))
    try:
        yield client
    finally:
        client.close()


@contextmanager
def away() -> Generator[None]:
    """An engine that does not answer, or breaks off, as EngineUnavailable."""
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
def asking(what: str) -> Generator[None]:
    """Like `away`; what the engine refuses, which is the payload's fault, as InvalidPayload."""
    try:
        with away():
            yield
    except APIError as error:
        raise InvalidPayload(f"{what}: the Docker engine refuses: {explained(error)}") from error


def explained(error: APIError) -> str:
    """What the engine says of an error, in one line."""
    return " ".join(str(error.explanation or error).split())[:300]


def api(client: docker.DockerClient) -> Any:
    """The engine's API itself."""
    return client.api  # its stubs leave most of its methods untyped
