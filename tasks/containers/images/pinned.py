"""Finding and pulling of images, identified by digest so that every attempt runs the same one."""

import re
from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, NotFound

from tasks.containers.engine import api, engine_outages, explained
from tasks.errors import EngineUnavailable, InvalidPayload, RegistryUnavailable

_MOST_VOLUMES = 16
_ID = "sha256:"
# The engine's messages for transient errors of a registry. A refused connection is not among them,
# since a wrong address causes it too.
_TRANSIENT = re.compile(
    r"HTTP (status: )?(5\d\d|429|408)\b|\b(500 Internal Server Error|502 Bad Gateway|503 Service "
    r"Unavailable|504 Gateway)|toomanyrequests|too many requests|rate limit|\btimeout\b|"
    r"deadline exceeded|connection reset|broken pipe|unexpected EOF|: EOF\b|"
    r"temporary failure|server misbehaving|network is unreachable|request canceled while|"
    # The disk of the engine is full, and what was downloaded differs from its digest.
    r"no route to host|no space left on device|verification failed for digest|tls: internal error",
    re.IGNORECASE,
)
_CREDENTIALS = ("unauthorized", "authentication", "no basic auth", "denied", "docker login")


@dataclass(frozen=True)
class Image:
    """An image that is on this host."""

    id: str
    """Digest of its configuration, `sha256:…`."""
    reference: str
    """A name with digest that is valid on every host; the id where the image has none."""
    volumes: tuple[str, ...]
    """The folders that it declares as volumes."""
    workdir: str = "/"
    """Its WORKDIR."""
    triggers: tuple[str, ...] = ()
    """The ONBUILD instructions that a build on it executes first."""


@dataclass(frozen=True)
class Login:
    """User and password for a registry."""

    username: str
    password: str
    registry: str

    def __repr__(self) -> str:
        return f"Login({self.username}@{self.registry})"  # no password in any message


def find(client: docker.DockerClient, name: str) -> Image | None:
    """An image on this host, by name, digest or id; None where it is not on this host.

    Raises InvalidPayload where the name is invalid or the image has more than 16 volumes,
    EngineUnavailable.
    """
    try:
        with engine_outages():
            attributes: dict[str, Any] = api(client).inspect_image(name)
    except NotFound:
        return None
    except APIError as error:
        raise InvalidPayload(f"image '{name}': {explained(error)}: correct the name") from error
    config: dict[str, Any] = attributes.get("Config") or {}
    volumes = tuple(sorted(config.get("Volumes") or {}))
    if len(volumes) > _MOST_VOLUMES:
        raise InvalidPayload(
            f"image '{name}' declares {len(volumes)} volumes: use one with {_MOST_VOLUMES} at most"
        )
    id = str(attributes["Id"])
    digests: list[str] = attributes.get("RepoDigests") or []
    repository = name.partition("@")[0].rpartition(":")[0] or name
    own = [digest for digest in digests if digest.partition("@")[0] in (name, repository)]
    return Image(
        id,
        (own or digests or [id])[0],
        volumes,
        config.get("WorkingDir") or "/",
        tuple(config.get("OnBuild") or ()),
    )


def pull(client: docker.DockerClient, name: str, login: Login | None, platform: str = "") -> Image:
    """Pull an image. `platform`: such as linux/arm64; empty for the engine's own.

    Raises InvalidPayload where the registry refuses or does not have it, RegistryUnavailable where
    the registry fails transiently, EngineUnavailable.
    """
    if name.startswith(_ID):
        raise InvalidPayload(
            f"image '{name}' is not on this host, and an id cannot be pulled: give its name"
        )
    auth = login and {
        "username": login.username,
        "password": login.password,
        "serveraddress": login.registry,
    }
    try:
        with engine_outages():
            for event in api(client).pull(
                name, stream=True, decode=True, auth_config=auth, platform=platform or None
            ):
                if "error" in event:
                    raise _unpulled(name, str(event["error"]), login)
    except APIError as error:
        raise _unpulled(name, explained(error), login) from error
    except EngineUnavailable as error:
        # The engine reports refusals of a registry as its own errors (status 500).
        if isinstance(error.__cause__, APIError):
            raise _unpulled(name, explained(error.__cause__), login) from error
        raise
    found = find(client, name)
    if found is None:
        raise _unpulled(name, "it was pulled and is not there", login)
    return found


def is_transient(reason: str) -> bool:
    """Whether the engine's message is about a transient error of a registry."""
    return _TRANSIENT.search(reason) is not None


def log_in(client: docker.DockerClient, login: Login) -> None:
    """Log in to a registry for this client's builds.

    Raises InvalidPayload where the registry refuses, RegistryUnavailable, EngineUnavailable.
    """
    try:
        with engine_outages():
            api(client).login(login.username, login.password, registry=login.registry, reauth=True)
    except APIError as error:
        raise _refused_login(explained(error), login) from error
    except EngineUnavailable as error:
        # As in `pull`: a refusal of the registry.
        if isinstance(error.__cause__, APIError):
            raise _refused_login(explained(error.__cause__), login) from error
        raise


def _refused_login(reason: str, login: Login) -> InvalidPayload | RegistryUnavailable:
    message = f"the registry {login.registry} refuses the login of {login.username}: {reason}"
    if is_transient(reason):
        return RegistryUnavailable(message)
    return InvalidPayload(
        f"{message}: check the user and password of the block that registry_credentials names"
    )


def _unpulled(name: str, reason: str, login: Login | None) -> InvalidPayload | RegistryUnavailable:
    message = f"image '{name}' cannot be pulled: {' '.join(reason.split())}"
    if is_transient(reason):
        return RegistryUnavailable(message)
    if any(word in reason.lower() for word in _CREDENTIALS):
        cure = (
            "check the name, and the user and password of the block that registry_credentials names"
            if login
            else "check the name, or give registry_credentials"
        )
    else:
        cure = "check the name, and that this host reaches the registry"
    return InvalidPayload(f"{message}: {cure}")


def remove(client: docker.DockerClient, name: str) -> None:
    """Remove an image that was built for a job. Its layers stay in the cache of builds."""
    try:
        with engine_outages():
            api(client).remove_image(name, force=True, noprune=True)
    except APIError as error:
        if error.status_code not in (404, 409):  # it is gone or being removed
            raise
