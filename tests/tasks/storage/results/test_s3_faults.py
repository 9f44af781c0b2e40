"""S3 that is slow, or loses its answers, while an attempt stores and publishes."""

import logging
import os
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from tasks.contracts import Manifest, S3Address
from tasks.errors import ResultsUnwritable, StorageUnavailable
from tasks.storage.results.s3 import S3Root
from tasks.storage.results.s3_stage import S3Stage
from tests.support.faults import FaultyStorage, faulty_storage
from tests.support.platform import wait_until
from tests.support.storage import client_of, moto_with, rclone_server
from tests.tasks.storage.results.attempts import claim, fill

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "results"
CONTENT = {"a": b"a", "b": b"b"}
LONG_AGO = time.time() - 3600
TRIES = 2  # of the client, for each request


@dataclass
class Faulty:
    """A root at an S3 server that can be made to fail."""

    root: S3Root
    faults: FaultyStorage
    client: "S3Client"
    """Past the faults."""

    def keys(self, job: UUID) -> list[str]:
        """What there is of a job, relative to its place."""
        listed = self.client.list_objects_v2(Bucket=BUCKET, Prefix=f"p/d/{job}/")
        return [item.get("Key", "").split("/", 3)[3] for item in listed.get("Contents", [])]


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with moto_with(BUCKET) as address:
        yield address


@pytest.fixture
def faulty(server: str, tmp_path: Path) -> Generator[Faulty]:
    with faulty_storage(server) as faults:
        through, past = client_of(faults.address, tries=TRIES, read_timeout=1), client_of(server)
        yield Faulty(S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: through), faults, past)
        through.close()
        past.close()


def publish_unheard(faulty: Faulty, job: UUID) -> tuple[S3Stage, Manifest]:
    """An attempt that fails because no answer comes to its manifest."""
    faulty.faults.fail(f"PUT /{BUCKET}/p/d/{job}/manifest.json", "dropped", TRIES)
    with faulty.root.open_stage("d", job, uuid4()) as stage:
        fill(stage.files, CONTENT)
        manifest = claim(job, 1, stage.store())
        with pytest.raises(StorageUnavailable):
            stage.publish(manifest)
    assert not stage.files.exists(), "the room on this host is given back at once"
    return stage, manifest.model_copy(update={"folder": stage.name})


def test_a_manifest_that_appears_after_its_attempt_finds_its_files(faulty: Faulty) -> None:
    job = uuid4()
    stage, manifest = publish_unheard(faulty, job)
    faulty.root.discard_stages(job)
    assert len(faulty.keys(job)) == len(CONTENT), "not yet"
    faulty.client.put_object(
        Bucket=BUCKET, Key=stage.place.key("manifest.json"), Body=manifest.model_dump_json()
    )
    faulty.root.discard_stages(job)
    assert faulty.root.staged() == set()
    result = faulty.root.find("d", job)
    assert result is not None
    result.verify()


def test_a_manifest_that_never_appears_is_not_waited_for_forever(faulty: Faulty) -> None:
    job = uuid4()
    stage, _ = publish_unheard(faulty, job)
    os.utime(stage.folder / "publishing", (LONG_AGO, LONG_AGO))
    faulty.root.discard_stages(job)
    assert faulty.keys(job) == []
    assert faulty.root.staged() == set()


def test_a_manifest_that_is_refused_leaves_nothing(faulty: Faulty) -> None:
    job = uuid4()
    faulty.faults.fail(f"PUT /{BUCKET}/p/d/{job}/manifest.json", "refused", 1)
    with (
        pytest.raises(ResultsUnwritable, match="access is denied to that key"),
        faulty.root.open_stage("d", job, uuid4()) as stage,
    ):
        fill(stage.files, CONTENT)
        stage.publish(claim(job, 1, stage.store()))
    assert faulty.keys(job) == []
    assert faulty.root.staged() == set()


def test_a_store_that_knows_no_conditions_is_written_without(faulty: Faulty) -> None:
    job = uuid4()
    faulty.faults.fail(f"PUT /{BUCKET}/p/d/{job}/manifest.json", "unknown", 1)
    with faulty.root.open_stage("d", job, uuid4()) as stage:
        fill(stage.files, CONTENT)
        stage.publish(claim(job, 1, stage.store())).verify()
    assert len(faulty.keys(job)) == len(CONTENT) + 1


def test_a_slow_answer_is_asked_for_again_and_what_is_stored_is_not(faulty: Faulty) -> None:
    job = uuid4()
    with faulty.root.open_stage("d", job, uuid4()) as stage:
        fill(stage.files, CONTENT)
        one, other = (f"PUT /{BUCKET}/p/d/{job}/{stage.name}/{name}" for name in CONTENT)
        faulty.faults.fail(one, "silent", TRIES)
        with pytest.raises(StorageUnavailable, match="try again later"):
            stage.store()
        stage.publish(claim(job, 1, stage.store())).verify()
    assert (faulty.faults.count(one), faulty.faults.count(other)) == (TRIES + 1, 1)


def test_an_attempt_cancelled_in_the_middle_of_an_upload_loses_no_key(
    faulty: Faulty, caplog: pytest.LogCaptureFixture
) -> None:
    job = uuid4()
    with (
        caplog.at_level(logging.WARNING),
        faulty.root.open_stage("d", job, uuid4()) as stage,
    ):
        fill(stage.files, CONTENT)
        put = f"PUT /{BUCKET}/p/d/{job}/{stage.name}"
        faulty.faults.fail(put, "silent", 2)
        upload = threading.Thread(target=stage.store)
        upload.start()
        wait_until(lambda: faulty.faults.count(put) >= 2, what="the upload is under way")
    assert "is left behind: it is still uploading" in caplog.text
    upload.join(240)
    assert len(faulty.keys(job)) == len(CONTENT), "the thread has gone on"
    faulty.root.discard_stages(job)
    assert faulty.keys(job) == []


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (("another-key-12", "a-secret-for-tests"), "the access key is unknown there"),
        (("a-key-for-tests", "another-secret"), "the secret key is wrong"),
    ],
)
def test_wrong_keys_are_reported_in_one_line(
    store: str, tmp_path: Path, keys: tuple[str, str], reason: str
) -> None:
    client = client_of(store, keys=keys)
    with pytest.raises(ResultsUnwritable, match=rf"s3://{BUCKET}/p: {reason}: correct") as refused:
        S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: client).check()
    assert "\n" not in str(refused.value)
    assert keys[1] not in str(refused.value)
    client.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server that looks at the keys, which moto's does not."""
    with rclone_server(tmp_path_factory.mktemp("rclone") / "data") as address:
        yield address
