"""The Docker engine on this host: finds it, builds the image of jobs, removes containers."""

import hashlib
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.utils import exclude_paths, tar

from deployments.pools import TREE
from tasks.errors import OperatorError, in_short
from tasks.settings import Settings

_REPOSITORY = "prefecture"
_BASE_IMAGE = "python:3.12-slim"
_BASE_IMAGE_WITHOUT_REGISTRY = "prefecture-base:bookworm"  # made by .ci/base-image
_STEP_SHOWN = 72  # characters of a build step that are shown
_REMOVAL = 120.0  # seconds for which an engine may refuse to remove a container
_RETRY_DELAY = 1.0  # seconds before the next attempt to remove it
_CONFLICT = 409
_WORKER_LABEL = "io.prefect.worker-name"  # set by Prefect's Docker worker on each container


def find_engine() -> docker.DockerClient | None:
    """A client for the engine that the environment names; None where none answers."""
    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, requests.RequestException):
        return None
    return client


@contextmanager
def _engine_errors() -> Generator[None]:
    """Raise OperatorError where the engine refuses, or does not answer in time."""
    try:
        yield
    except (APIError, requests.RequestException) as error:
        raise OperatorError(
            f"the Docker engine refuses: {in_short(error)}: try again, or use --pool process"
        ) from error


def base_image(client: docker.DockerClient, settings: Settings) -> str:
    """The base image for the image of jobs."""
    if settings.base_image is not None:
        return settings.base_image
    here = client.images.list(name=_BASE_IMAGE_WITHOUT_REGISTRY)
    return _BASE_IMAGE_WITHOUT_REGISTRY if here else _BASE_IMAGE


def image_tag(client: docker.DockerClient, settings: Settings) -> str:
    """The tag of the image of jobs: the setting's, or one with a digest of the build context."""
    if settings.image is not None:
        return settings.image
    digest = hashlib.sha256(base_image(client, settings).encode())
    for path in _image_files():
        digest.update(path.relative_to(TREE).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{_REPOSITORY}:{digest.hexdigest()[:12]}"


def ensure_image(
    client: docker.DockerClient, settings: Settings, say: Callable[[str], None]
) -> str:
    """Build the image of jobs from this tree, unless the engine has it. Returns its tag.

    Raises OperatorError with the failing step where the build fails, and where an image that is set
    in the settings is missing and cannot be pulled.
    """
    with _engine_errors():
        tag = image_tag(client, settings)
        try:
            client.images.get(tag)
            return tag
        except ImageNotFound:
            if settings.image is not None:
                return _pull(client, tag)
        base = base_image(client, settings)
    say(f"building the image of jobs, {tag}, on {base} (a few minutes, once)")
    context: Any = tar(TREE, exclude=_ignored())
    step, lines = "", list[str]()
    try:
        for event in client.api.build(
            fileobj=context,
            custom_context=True,
            tag=tag,
            buildargs={"BASE_IMAGE": base},
            rm=True,
            forcerm=True,
            decode=True,
        ):
            if "error" in event:
                tail = " ".join(" ".join(lines[-3:]).split())
                raise OperatorError(
                    f"the image does not build: {step}: {event['error']} {tail}: correct that, set "
                    "BASE_IMAGE to an image that is here and has Python 3.11 or later, or use "
                    "the process pool"
                )
            line = str(event.get("stream", "")).strip()
            if line.startswith("Step "):
                step = line
                say(f"  {line[:_STEP_SHOWN]}")
            elif line:
                lines.append(line)
    except APIError as error:
        raise OperatorError(f"the image does not build: {error.explanation or error}") from error
    return tag


def containers_of(client: docker.DockerClient, worker: str) -> list[Any]:
    """All containers that a worker started, also stopped ones."""
    label = f"{_WORKER_LABEL}={worker}"
    try:
        return client.containers.list(all=True, filters={"label": label}, ignore_removed=True)
    except (APIError, requests.RequestException) as error:
        raise OperatorError(f"the Docker engine does not answer any more: {error}") from error


def remove_containers(client: docker.DockerClient, worker: str) -> int:
    """Kill and remove every container that a worker started. Returns how many.

    Raises OperatorError where the engine refuses to remove one for 120 s.
    """
    containers = containers_of(client, worker)
    for container in containers:
        _remove(container)
    return len(containers)


def _remove(container: Any) -> None:
    end = time.monotonic() + _REMOVAL
    while True:
        try:
            return container.remove(force=True, v=True)
        except NotFound:
            return None  # removed meanwhile
        except (APIError, requests.RequestException) as error:
            # 409: a removal is already in progress.
            if isinstance(error, APIError) and error.status_code == _CONFLICT:
                return None
            # A busy engine answers 500, or late, while a process does not end or a layer is in use.
            if time.monotonic() > end:
                raise OperatorError(
                    f"the Docker engine does not remove the container {container.name}: "
                    f"{in_short(error)}: try `docker rm --force {container.name}`"
                ) from error
            time.sleep(_RETRY_DELAY)


def _pull(client: docker.DockerClient, tag: str) -> str:
    try:
        client.images.pull(tag)
    except APIError as error:
        raise OperatorError(
            f"PREFECTURE_IMAGE names {tag}, which is not here and cannot be pulled: {error}"
        ) from error
    return tag


def _image_files() -> list[Path]:
    """The files of the build context of the image of jobs."""
    found = exclude_paths(str(TREE), _ignored())
    return sorted(path for name in found if (path := TREE / name).is_file())


def _ignored() -> list[str]:
    """What is left out of that context.

    BuildKit reads the same file, by its name; the classic builder reads none but .dockerignore,
    which is that of Dockerfile.server.
    """
    lines = (TREE / "Dockerfile.dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]
