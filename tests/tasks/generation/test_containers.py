"""Containers that are kept running, on a real engine."""

import gc
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from tasks.containers import user_container
from tasks.containers.images.pinned import find
from tasks.containers.user_container import ContainerSpec, Owner
from tasks.errors import TopicUnavailable
from tasks.generation import containers
from tasks.generation.containers import RESTARTS, ContainerGroup
from tasks.generation.topics.folder import FolderTopic
from tests.integration.run_container.jobs import some_image
from tests.support.needs import need_docker

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture
def client() -> Generator[docker.DockerClient]:
    need_docker()
    client = docker.from_env(timeout=120)
    yield client
    client.close()
    gc.collect()  # here, where it is known what was left open, and not in another test


def keeper(
    client: docker.DockerClient, topic: FolderTopic, logs: Path, script: str
) -> ContainerGroup:
    """Of one container, for an hour."""
    image = find(client, some_image())
    assert image is not None
    owner = Owner(job=uuid4(), run=uuid4(), worker=None)
    spec = ContainerSpec(
        image=image,
        command=["sh", "-c", script],
        environment={},
        cpus=1,
        memory=64 * 2**20,
        network="none",
    )
    now = datetime.now(UTC)
    until = now + timedelta(hours=1)
    return ContainerGroup(client, owner, spec, topic, logs, now, until, lambda line: None, ["none"])


async def test_one_that_ends_early_every_time_is_given_up(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "_BACKOFF", 0.1)
    topic = FolderTopic(tmp_path / "topic", "writer")
    kept = keeper(client, topic, tmp_path, "echo '{}'; echo cannot >&2; touch /x; exit 3")
    said: list[str] = []
    kept.show = said.append
    await kept.run()  # not for an hour
    topic.close()
    (counts,) = kept.counts
    assert (counts.restarts, counts.given_up, counts.messages) == (RESTARTS, True, 1 + RESTARTS)
    assert topic.delivered == counts.messages
    assert kept.last_lines == ("cannot", "touch: cannot touch '/x': Read-only file system")
    assert kept.last_reason.startswith("only /output, /tmp, /dev/shm and the image's volumes")
    waits = [line.removeprefix("container 1 exited with 3: restarted in ") for line in said]
    assert waits == ["0 s", "0 s", "0 s", "1 s", "2 s", said[-1]], "twice as long each time"
    assert said[-1] == "container 1 exited with 3 after 5 restarts: given up"
    assert user_container.remove_all_of(client, kept.owner.job) == 0


class Full(FolderTopic):
    """A topic that takes nothing."""

    def deliver(self, source: int, line: bytes) -> None:
        raise TopicUnavailable("full")


async def test_one_that_prints_on_when_nobody_takes_it_is_ended(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    kept = keeper(client, Full(tmp_path / "topic", "writer"), tmp_path, "yes '{}'")
    with pytest.raises(TopicUnavailable, match="full"):
        await kept.run()
    assert user_container.remove_all_of(client, kept.owner.job) == 0
