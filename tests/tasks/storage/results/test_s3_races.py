"""Attempts in processes of their own, at once or killed in the middle, at a real S3 server."""

import multiprocessing
import os
from collections.abc import Generator
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from tasks.contracts import Manifest, S3Address
from tasks.storage.results.s3 import S3Root
from tests.support.faults import faulty_storage
from tests.support.platform import wait_until
from tests.support.storage import client_of, moto_server
from tests.tasks.storage.results.attempts import claim, fill

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SPAWN = multiprocessing.get_context("spawn")
BUCKET, ATTEMPTS, ROUNDS = "results", 3, 15
PIECES = {f"{number}.bin": b"x" * 100_000 for number in range(400)}


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket=BUCKET)
        yield address
        client.close()


def root_at(address: str, scratch: Path) -> S3Root:
    client = client_of(address)
    return S3Root(S3Address(BUCKET, "p"), scratch, lambda: client)


def attempt_at(root: S3Root, job: UUID, me: int, content: dict[str, bytes]) -> Manifest:
    with root.open_stage("race", job, uuid4()) as stage:
        fill(stage.files, content)
        return stage.publish(claim(job, me, stage.store())).manifest


def keys(client: "S3Client", job: UUID) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"p/race/{job}/")
    return [item.get("Key", "") for page in pages for item in page.get("Contents", [])]


def race(
    address: str, scratch: Path, jobs: list[UUID], me: int, line: Barrier,
    outcomes: SimpleQueue[tuple[str, str]],
) -> None:  # fmt: skip
    root = root_at(address, scratch)
    for job in jobs:
        line.wait(240)
        try:
            manifest = attempt_at(root, job, me, {"who": bytes([me])})
        except Exception as error:  # noqa: BLE001  # handed to the test, which fails on it
            outcomes.put((str(job), repr(error)))
        else:
            outcomes.put((str(job), manifest.model_dump_json()))


def test_of_attempts_at_once_one_publishes_and_all_return_its_manifest(
    address: str, tmp_path: Path
) -> None:
    jobs = [uuid4() for _ in range(ROUNDS)]
    line, outcomes = SPAWN.Barrier(ATTEMPTS), SPAWN.SimpleQueue()
    racers = [
        SPAWN.Process(target=race, args=(address, tmp_path, jobs, me, line, outcomes), daemon=True)
        for me in range(1, ATTEMPTS + 1)
    ]
    for racer in racers:
        racer.start()
    returned: dict[str, set[str]] = {}
    for _ in range(ATTEMPTS * ROUNDS):
        job, outcome = outcomes.get()
        returned.setdefault(job, set()).add(outcome)
    for racer in racers:
        racer.join(240)
        assert racer.exitcode == 0
    client = client_of(address)
    root = S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: client)
    for job in jobs:
        result = root.find("race", job)
        assert result is not None
        assert returned[str(job)] == {result.manifest.model_dump_json()}
        result.verify()
        assert len(keys(client, job)) == 2, "the losers have removed theirs"
    assert root.staged() == set()
    client.close()


def publish_pieces(address: str, scratch: Path, job: UUID) -> None:
    attempt_at(root_at(address, scratch), job, 1, PIECES)


def test_killed_in_the_middle_of_its_upload(address: str, tmp_path: Path) -> None:
    client, job = client_of(address), uuid4()
    process = SPAWN.Process(target=publish_pieces, args=(address, tmp_path, job), daemon=True)
    process.start()
    wait_until(lambda: len(keys(client, job)) > 10, what="the upload is under way")
    assert process.pid is not None
    os.kill(process.pid, 9)
    process.join(240)
    root = S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: client)
    assert 10 < len(keys(client, job)) < len(PIECES)
    assert not root.is_published("race", job)
    assert root.find("race", job) is None
    ((left, attempt),) = root.staged()
    assert left == job
    root.discard_stages(job, attempt)
    assert keys(client, job) == []
    assert root.staged() == set()
    assert attempt_at(root, job, 2, {"a": b"a"}).attempt == 2
    client.close()


def publish_a_large_file(address: str, scratch: Path, job: UUID) -> None:
    attempt_at(root_at(address, scratch), job, 1, {"large.bin": bytes(40 * 2**20)})


def test_killed_in_the_middle_of_a_file(address: str, tmp_path: Path) -> None:
    client, job = client_of(address), uuid4()

    def under_way() -> bool:
        return bool(client.list_multipart_uploads(Bucket=BUCKET).get("Uploads"))

    with faulty_storage(address) as storage:
        parts = f"PUT /{BUCKET}/p/race/{job}/"
        storage.fail(parts, "silent", times=10)
        process = SPAWN.Process(
            target=publish_a_large_file, args=(storage.address, tmp_path, job), daemon=True
        )
        process.start()
        wait_until(lambda: storage.count(parts) >= 2, what="two parts are under way")
        assert process.pid is not None
        os.kill(process.pid, 9)
        process.join(240)
    assert under_way()
    root = S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: client)
    ((_, attempt),) = root.staged()
    root.discard_stages(job, attempt)
    assert not under_way()
    assert keys(client, job) == []
    assert root.staged() == set()
    client.close()
