"""Containers that are kept running, on a real engine."""

import gc
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import docker
import pytest

from tasks.containers import sibling
from tasks.containers.images.found import find
from tasks.containers.sibling import Owner, Wish
from tasks.generation import keeping
from tasks.generation.keeping import RESTARTS, Keeper
from tasks.topics.folder import FolderTopic
from tests.integration.run_container.jobs import some_image
from tests.support.needs import need_docker


@pytest.fixture
def client() -> Generator[docker.DockerClient]:
    need_docker()
    client = docker.from_env()
    yield client
    client.close()
    gc.collect()  # here, where it is known why something was left open


# docker-py leaves the socket of what it attaches to to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
async def test_one_that_ends_early_every_time_is_given_up(
    client: docker.DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_BACKOFF", 0.1)
    image = find(client, some_image())
    assert image is not None
    owner = Owner(job=uuid4(), run=uuid4(), worker=None)
    wish = Wish(
        image=image,
        command=["sh", "-c", "echo '{}'; echo cannot >&2; exit 3"],
        environment={},
        cpus=1,
        memory=64 * 2**20,
        network="none",
    )
    topic = FolderTopic(tmp_path / "topic", "writer")
    now = datetime.now(UTC)
    said: list[str] = []
    keeper = Keeper(
        client, owner, wish, topic, tmp_path, now, now + timedelta(hours=1), said.append, number=1
    )
    await keeper.keep()  # not for an hour
    topic.close()
    (counts,) = keeper.counts
    assert (counts.restarts, counts.given_up, counts.messages) == (RESTARTS, True, 1 + RESTARTS)
    assert topic.delivered == counts.messages
    assert keeper.last_lines == ("cannot",)
    waits = [line.removeprefix("container 1 ended with 3: started again in ") for line in said]
    assert waits == ["0 s", "0 s", "0 s", "1 s", "2 s", said[-1]], "twice as long each time"
    assert said[-1] == "container 1 ended with 3 again, and is given up"
    assert sibling.remove_all_of(client, owner.job) == 0
