"""Images that must be pulled, from a real registry that asks for a password."""

from collections.abc import Generator
from uuid import UUID

import docker
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_docker.credentials import (  # pyright: ignore[reportMissingTypeStubs]
    DockerRegistryCredentials,
)
from pydantic import SecretStr

from tests.integration.run_container.jobs import failed, submit_job
from tests.integration.run_container.registry import PASSWORD, USER, push_something, registry
from tests.support.platform import Platform


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The name of an image that only the registry has, removed from the engine at the end."""
    with registry(tmp_path_factory.mktemp("registry")) as address:
        name = push_something(address)
        yield name
        client = docker.from_env()
        try:
            client.images.remove(name, force=True)
        finally:
            client.close()


async def save(platform: Platform, name: str, image: str, password: str) -> str:
    with temporary_settings({PREFECT_API_URL: platform.api}):
        block = DockerRegistryCredentials(
            username=USER,
            password=SecretStr(password),
            registry_url=image.partition("/")[0],
        )
        await block.asave(name, overwrite=True)
    return f"docker-registry-credentials/{name}"


@pytest.mark.thorough
async def test_who_may_pull(docker_platform: Platform, image: str) -> None:
    wrong = await save(docker_platform, "wrong", image, "another")
    right = await save(docker_platform, "right", image, PASSWORD)

    def job(**more: str) -> UUID:
        return submit_job(docker_platform, {"image": image, "command": ["/file"], **more})

    without = job()
    message = failed(docker_platform, without)
    assert message.startswith(f"image '{image}' cannot be pulled: ")
    assert message.endswith("check the name, or give registry_credentials")
    with_wrong = job(registry_credentials=wrong)
    message = failed(docker_platform, with_wrong)
    assert message.endswith("password of the block that registry_credentials names")
    assert "another" not in message
    with_right = job(registry_credentials=right)
    assert "cannot be pulled" not in failed(docker_platform, with_right), "it only cannot run"
    pinned = docker_platform.run(with_right)["labels"]["prefecture.image"]
    assert pinned.startswith(f"{image.rpartition(':')[0]}@sha256:")
    lines = docker_platform.rest(
        "POST", "/logs/filter", {"logs": {"flow_run_id": {"any_": [str(with_right)]}}}
    ).text
    assert PASSWORD not in lines
