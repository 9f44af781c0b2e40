"""Secrets of containers: files in memory, for their user alone, and in no other place."""

import asyncio
import gc
import json
import os
import subprocess
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from tasks.containers.engine import api
from tasks.containers.images.pinned import Image
from tasks.containers.secret_files import held
from tasks.contracts import SECRETS_VOLUME
from tasks.errors import InvalidPayload
from tests.support.needs import need_docker
from tests.tasks.containers.engine import Bench, built
from work_pools.supervisor.infrastructure.containers import Containers

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
VALUE = "swordfish-7f3a91"
SCRIPT = """
test "$(cat /run/secrets/api-key)" = "$EXPECTED" && stat -c '%a %u' /run/secrets/api-key
wc -c < /run/secrets/large; ls /run/secrets | xargs
stat -f -c %T /run/secrets; touch /run/secrets/x 2>/dev/null || echo read-only
env | grep -c swordfish; grep -c swordfish /proc/mounts
"""


@pytest.fixture(scope="module")
def engine() -> Generator[tuple[docker.DockerClient, Image]]:
    need_docker()
    with built('FROM {base}\nENTRYPOINT ["sh", "-c"]\n') as made:
        yield made
    gc.collect()


@pytest.fixture
def bench(engine: tuple[docker.DockerClient, Image], tmp_path: Path) -> Bench:
    return Bench(*engine, tmp_path)


def test_containers_read_secrets_in_memory(bench: Bench) -> None:
    client, volume = api(bench.client), f"{SECRETS_VOLUME}{bench.owner.run}"
    # What the script compares with is no secret's text, which would be in its environment.
    script = SCRIPT.replace('"$EXPECTED"', '"$(echo swordfish)-7f3a91"')
    values = {"api-key": VALUE.encode(), "large": b"x" * 500_000}
    spec = bench.spec([script])
    with held(bench.client, bench.owner, values, bench.image.id) as name:
        assert name == volume
        for _ in range(2):  # a container that is started again finds them too
            outcome = asyncio.run(bench.run(replace(spec, secrets=name)))
            assert outcome.code in (0, 1), outcome  # the last grep finds nothing
            assert bench.printed.split("\n") == [
                f"400 {os.getuid()}",
                "500000",
                "api-key large",
                "tmpfs",
                "read-only",
                "0",
                "0",
                "",
            ]
        known: list[Any] = [client.inspect_volume(name)]
        for entry in client.containers(all=True, filters={"volume": name}):
            known += [client.inspect_container(entry["Id"]), client.diff(entry["Id"])]
        assert len(known) == 3, "the helper, and no other"
        assert VALUE not in json.dumps(known)
    listed = client.volumes(filters={"name": volume})["Volumes"]
    assert not listed
    assert client.containers(all=True, filters={"volume": volume}) == []
    assert on_disk(bench.folder) == []


def on_disk(folder: Path) -> list[str]:
    """The files below a folder that hold the secret."""
    command = ["grep", "-rl", VALUE, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def test_secrets_have_a_size(bench: Bench) -> None:
    with (
        pytest.raises(InvalidPayload, match="more than"),
        held(bench.client, bench.owner, {"a": bytes(2**20 + 1)}, bench.image.id),
    ):
        pass


async def test_the_supervisor_removes_what_a_killed_job_leaves(bench: Bench) -> None:
    client, supervised = api(bench.client), Containers()
    with held(bench.client, bench.owner, {"a": b"1"}, bench.image.id) as volume:
        for instance in (await supervised.find())[bench.owner.run]:
            assert instance.sibling
            await supervised.remove(instance)
        assert not client.volumes(filters={"name": volume})["Volumes"]
