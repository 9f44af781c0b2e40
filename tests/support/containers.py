"""The containers of one Prefecture's jobs, seen from outside."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import docker

from tests.support.platform import Platform


@contextmanager
def engine(platform: Platform) -> Generator[docker.DockerClient]:
    """A client for the platform's engine."""
    client = docker.from_env(environment=platform.environment)
    try:
        yield client
    finally:
        client.close()


def containers(platform: Platform) -> list[Any]:
    """Every container of a job of this platform, running or not."""
    with engine(platform) as client:
        found = client.containers.list(
            all=True, filters={"label": "prefecture=job"}, ignore_removed=True
        )
        home = str(platform.home)
        return [one for one in found if any(home in str(m) for m in one.attrs["Mounts"])]


def kill_container(platform: Platform, run: str) -> None:
    """SIGKILL to the container of a flow run: `docker kill`."""
    with engine(platform) as client:
        labels: dict[str, Any] = {"label": ["prefecture=job", f"io.prefect.flow-run-id={run}"]}
        (container,) = client.containers.list(filters=labels)
        container.kill()
