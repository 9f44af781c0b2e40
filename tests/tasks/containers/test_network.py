"""The networks of a job's containers, on a real engine."""

import gc
import socket
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from tasks.containers import network, routes, running
from tasks.containers.images.pinned import Image
from tasks.containers.network import networks
from tasks.containers.running import Bounds
from tasks.containers.user_container import ContainerSpec, Owner, remove_all_of
from tests.support.needs import need_docker
from tests.tasks.containers.engine import built

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
MIB = 2**20
# The program that sets the routes, as the image of jobs has it.
DOCKERFILE = """
FROM {base}
COPY routes /app/tasks/containers/routes.py
WORKDIR /app
RUN command -v python || ln -s "$(command -v python3)" /usr/local/bin/python
"""


@pytest.fixture
def engine() -> Generator[tuple[docker.DockerClient, Image]]:
    need_docker()
    with built(DOCKERFILE, routes=Path(routes.__file__)) as (client, image):
        yield client, image
    gc.collect()


async def test_each_container_has_its_own_host_name_and_address(
    engine: tuple[docker.DockerClient, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, image = engine
    monkeypatch.setattr(network, "_own_image", lambda client, owner: image.id)  # pyright: ignore[reportUnknownLambdaType,reportUnknownArgumentType]
    owner = Owner(uuid4(), uuid4(), None)
    seen: list[list[str]] = []
    async with networks(client, owner, "bridge", 2) as modes:
        for mode in modes:
            command = ["sh", "-c", "hostname; getent hosts $(hostname); hostname -i"]
            spec = ContainerSpec(image, command, {}, cpus=1, memory=64 * MIB, network=mode)
            bounds = Bounds(120, MIB, MIB)
            ran = await running.run(client, owner, spec, tmp_path, bounds, lambda line: None)
            assert (ran.code, ran.fault) == (0, "")
            seen.append((tmp_path / "stdout.log").read_text().split())
    job = str(owner.job)[:8]
    assert [words[0] for words in seen] == [f"job-{job}-1", f"job-{job}-2"]
    assert socket.gethostname() not in {words[0] for words in seen}
    for name, address, resolved, own in seen:
        assert (resolved, own) == (name, address), "a program finds itself by its name"
    assert len({words[1] for words in seen}) == 2
    assert remove_all_of(client, owner.job) == 0
