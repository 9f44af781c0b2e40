"""The networks of a job's containers, on a real engine."""

import gc
import json
import socket
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import docker
import psutil
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


# Whether there is a route to an address, by UDP: nothing is sent.
ROUTES = """
import json, socket, sys
def way(address, port, kind):
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.settimeout(5)
        try:
            probe.connect((address, port))
        except OSError as error:
            return error.strerror
    return "a route"
names, host, listening = sys.argv[1].split(","), sys.argv[2].split(","), int(sys.argv[3])
print(json.dumps({
    "names": [way(name, 53, socket.SOCK_DGRAM) for name in names],
    "names, other ports": [way(name, 5353, socket.SOCK_DGRAM) for name in names],
    "names, other protocol": [way(name, 853, socket.SOCK_STREAM) for name in names],
    "host": [way(address, listening, socket.SOCK_STREAM) for address in host],
    "port 53 of others": [way(address, 53, socket.SOCK_DGRAM) for address in host],
    "internet": [way("203.0.113.1", 443, socket.SOCK_DGRAM)],
}))
"""


@pytest.fixture
def listener() -> Generator[int]:
    """A port at which something listens, at all addresses of this host."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


async def test_host_and_name_servers_are_out_of_reach(
    engine: tuple[docker.DockerClient, Image],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listener: int,
) -> None:
    client, image = engine
    monkeypatch.setattr(network, "own_image", lambda client, owner: image.id)  # pyright: ignore[reportUnknownLambdaType,reportUnknownArgumentType]
    names = ["203.0.113.53", "10.255.255.53", "169.254.169.254"]
    monkeypatch.setattr(network, "name_servers", lambda text: names)  # pyright: ignore[reportUnknownLambdaType,reportUnknownArgumentType]
    entries = [entry for all in psutil.net_if_addrs().values() for entry in all]
    host = [one.address for one in entries if one.family == socket.AF_INET]
    host = [address for address in host if not address.startswith("127.")]
    async with networks(client, Owner(uuid4(), uuid4(), None), "bridge") as (mode,):
        given = [",".join(names), ",".join(host), str(listener)]
        command = ["python3", "-c", ROUTES, *given]
        spec = ContainerSpec(image, command, {}, cpus=1, memory=64 * MIB, network=mode)
        owner, bounds = Owner(uuid4(), uuid4(), None), Bounds(120, MIB, MIB)
        ran = await running.run(client, owner, spec, tmp_path, bounds, lambda line: None)
    assert (ran.code, ran.fault) == (0, "")
    seen = json.loads((tmp_path / "stdout.log").read_text())
    assert seen.pop("names") == ["a route"] * len(names)
    assert seen.pop("internet") == ["a route"]
    assert {what for each in seen.values() for what in each} == {"No route to host"}, seen


async def test_each_container_has_its_own_host_name_and_address(
    engine: tuple[docker.DockerClient, Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, image = engine
    monkeypatch.setattr(network, "own_image", lambda client, owner: image.id)  # pyright: ignore[reportUnknownLambdaType,reportUnknownArgumentType]
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
