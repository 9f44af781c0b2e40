"""Credentials of registries, from Prefect blocks that payloads name."""

from prefect.blocks.core import Block

from tasks.containers.images.pinned import Login
from tasks.errors import InvalidPayload


async def load_login(name: str) -> Login:
    """Load user and password from a block such as docker-registry-credentials/team.

    Raises InvalidPayload where the server has no such block.
    """
    # This import registers the type of the block.
    from prefect_docker.credentials import (  # pyright: ignore[reportMissingTypeStubs]
        DockerRegistryCredentials,
    )

    try:
        block = await Block.aload(name)
    except ValueError as error:
        raise InvalidPayload(
            f"registry_credentials: there is no block {name} on the Prefect server: save it, or "
            "name another"
        ) from error
    assert isinstance(block, DockerRegistryCredentials)  # the payload's pattern says so
    return Login(block.username, block.password.get_secret_value(), block.registry_url)
