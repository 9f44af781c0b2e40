"""The images that a build starts from: on this host before the build, and harmless."""

from collections.abc import Sequence
from typing import Any

import docker
import docker.auth

from tasks.containers.images import pinned
from tasks.containers.images.dockerfile import Base, trigger_fetches
from tasks.containers.images.pinned import Image, Login
from tasks.errors import InvalidPayload

_auth: Any = docker.auth  # its stubs leave its functions untyped


def check_bases(
    client: docker.DockerClient, bases: Sequence[Base], platform: str, login: Login | None
) -> None:
    """Pull the base images that are not on this host, and refuse one whose ONBUILD has an ADD of an
    address: the engine would fetch it through its own network, which reaches the API.

    `platform`: the engine's own. Raises InvalidPayload, RegistryUnavailable, EngineUnavailable.
    """
    for base in bases:
        for trigger in _image_of(client, base, platform, login).triggers:
            if trigger_fetches(trigger):
                raise InvalidPayload(
                    f"Dockerfile: FROM {base.name}: a build on this image executes its ONBUILD "
                    f"{trigger[:100]}, and ADD cannot fetch an address here: use another image"
                )


def _image_of(client: docker.DockerClient, base: Base, platform: str, login: Login | None) -> Image:
    usual = base.platform in ("", platform)
    # The engine itself takes one that is there only where it is for the platform that is wanted.
    found = pinned.find(client, base.name) if usual else None
    if found is not None:
        return found
    login = login if login and _is_for(login, base.name) else None
    return pinned.pull(client, base.name, login, "" if usual else base.platform)


def _is_for(login: Login, image: str) -> bool:
    registry, _ = _auth.resolve_repository_name(image)
    return registry == _auth.resolve_index_name(_auth.convert_to_hostname(login.registry))
