"""Results in S3, against two real servers: one knows conditional writes, the other does not."""

import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from tasks.contracts import S3Address
from tasks.errors import (
    CorruptResult,
    InvalidPayload,
    PrefectureError,
    ResultsUnwritable,
    StageDiscarded,
    StorageUnavailable,
)
from tasks.storage.results import local_files
from tasks.storage.results.s3 import S3Root
from tasks.storage.results.s3_result import S3Result
from tests.support.platform import free_port
from tests.support.storage import client_of, moto_server, rclone_server
from tests.tasks.storage.results.attempts import CONTENT, claim, fill

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "results"


@pytest.fixture(scope="module", params=["moto", "rclone"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator["S3Client"]:
    server = (
        moto_server()
        if request.param == "moto"
        else rclone_server(tmp_path_factory.mktemp("rclone") / "data")
    )
    with server as address:
        client = client_of(address)
        client.create_bucket(Bucket=BUCKET)
        yield client
        client.close()


@pytest.fixture
def root(client: "S3Client", tmp_path: Path) -> S3Root:
    """A root under a prefix of its own."""
    prefix = f"team/{uuid4().hex}"
    return S3Root(S3Address(BUCKET, prefix), tmp_path / "scratch", lambda: client)


def publish(
    root: S3Root, job: UUID, attempt: int = 1, content: dict[str, bytes] = CONTENT
) -> S3Result:
    with root.open_stage("trips/2026", job, uuid4()) as stage:
        fill(stage.files, content)
        return stage.publish(claim(job, attempt, stage.store()))


def keys(root: S3Root, client: "S3Client") -> list[str]:
    """Every key under the root, relative to it."""
    prefix = f"{root_prefix(root)}/"
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    found = [item.get("Key", "") for page in pages for item in page.get("Contents", [])]
    return sorted(key.removeprefix(prefix) for key in found)


def test_a_result_is_its_files_and_then_its_manifest(
    root: S3Root, client: "S3Client", tmp_path: Path
) -> None:
    job = uuid4()
    assert not root.is_published("trips/2026", job)
    assert root.find("trips/2026", job) is None
    assert root.search(job) is None
    result = publish(root, job)
    assert root.is_published("trips/2026", job)
    folder = f"trips/2026/{job}"
    assert keys(root, client) == sorted(
        [f"{folder}/manifest.json"]
        + [f"{folder}/{result.manifest.folder}/{name}" for name in CONTENT]
    )
    for found in (root.find("trips/2026", job), root.search(job)):
        assert found is not None
        assert (found.manifest, found.location) == (result.manifest, result.location)
        found.verify()
    assert root.staged() == set()
    result.copy(tmp_path / "copy")
    assert {
        path.relative_to(tmp_path / "copy").as_posix(): path.read_bytes()
        for path in (tmp_path / "copy").rglob("*")
        if path.is_file() and path.name != local_files.MANIFEST
    } == CONTENT
    copied = local_files.read_manifest(tmp_path / "copy")
    assert copied == result.manifest.model_copy(update={"folder": ""})
    local_files.verify(tmp_path / "copy", copied)


def test_links_are_good_and_addresses_hold_no_secret(root: S3Root) -> None:
    result = publish(root, uuid4())
    for file, link in zip(result.manifest.files, result.links(), strict=True):
        with urllib.request.urlopen(link) as answer:
            assert answer.read() == CONTENT[file.path]
        assert result.address(file) == link.partition("?")[0]
        assert "X-Amz" not in result.address(file)


def test_the_second_of_two_attempts_returns_the_first_ones_result(
    root: S3Root, client: "S3Client"
) -> None:
    job = uuid4()
    with root.open_stage("d", job, uuid4()) as one, root.open_stage("d", job, uuid4()) as two:
        for stage, content in ((one, b"one"), (two, b"two")):
            fill(stage.files, {"who": content})
        claims = [claim(job, number, stage.store()) for number, stage in ((1, one), (2, two))]
        assert two.publish(claims[1]).manifest.attempt == 2
        assert one.publish(claims[0]).manifest.attempt == 2
        assert two.publish(claims[1]).manifest.attempt == 2, "called again, it answers the same"
    standing = root.find("d", job)
    assert standing is not None
    standing.verify()
    assert len(keys(root, client)) == 2


@pytest.mark.parametrize("damage", ["gone", "shorter", "other"])
def test_a_damaged_file_is_named(
    root: S3Root, client: "S3Client", tmp_path: Path, damage: str
) -> None:
    result = publish(root, uuid4())
    key = result.place.key(result.manifest.folder, "a.bin")
    if damage == "gone":
        client.delete_object(Bucket=BUCKET, Key=key)
    else:
        body = b"a" * 4999 + (b"b" if damage == "other" else b"")
        client.put_object(Bucket=BUCKET, Key=key, Body=body)
    with pytest.raises(CorruptResult, match=r"a\.bin is not the file that was published"):
        result.verify()
    with pytest.raises(CorruptResult, match=r"a\.bin is not the file that was published"):
        result.copy(tmp_path / "copy")
    assert not (tmp_path / "copy" / local_files.MANIFEST).exists()


def test_a_manifest_that_is_none_is_refused(root: S3Root, client: "S3Client") -> None:
    result = publish(root, uuid4())
    client.put_object(Bucket=BUCKET, Key=result.place.key(local_files.MANIFEST), Body=b"{}")
    with pytest.raises(CorruptResult, match="cannot be read"):
        root.find("trips/2026", result.manifest.job)


def test_an_attempt_that_fails_leaves_nothing(root: S3Root, client: "S3Client") -> None:
    with (
        pytest.raises(ValueError, match="a bug"),
        root.open_stage("d", uuid4(), uuid4()) as stage,
    ):
        fill(stage.files)
        stage.store()
        assert len(keys(root, client)) == len(CONTENT)
        raise ValueError("a bug")
    assert keys(root, client) == []
    assert root.staged() == set()


def test_what_an_attempt_left_is_discarded_and_no_result_touched(
    root: S3Root, client: "S3Client"
) -> None:
    job, published, dead = uuid4(), uuid4(), uuid4()
    held = [root.open_stage("d", job, attempt) for attempt in (published, dead)]
    stages = [manager.__enter__() for manager in held]
    for stage in stages:
        fill(stage.files)
    claims = [claim(job, number, stage.store()) for number, stage in enumerate(stages, start=1)]
    upload = client.create_multipart_upload(
        Bucket=BUCKET, Key=stages[1].place.key(stages[1].name, "half.bin")
    )
    stages[0].publish(claims[0])
    # Both are killed here: what they hold is found by their folders, on their host.
    assert root.staged() == {(job, published), (job, dead)}
    again = S3Root(S3Address(BUCKET, root_prefix(root)), stages[0].folder.parents[1], root._connect)  # pyright: ignore[reportPrivateUsage]
    again.discard_stages(job, published)
    again.discard_stages(job, dead)
    assert again.staged() == set()
    assert len(keys(root, client)) == len(CONTENT) + 1
    result = again.find("d", job)
    assert result is not None
    result.verify()
    uploads = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert upload["UploadId"] not in [other.get("UploadId") for other in uploads]
    with pytest.raises(StageDiscarded):
        stages[1].publish(claims[1])


def test_a_file_called_like_the_manifest_is_refused(root: S3Root) -> None:
    with pytest.raises(InvalidPayload, match=r"manifest\.json"):
        publish(root, uuid4(), content={"manifest.json": b"{}"})


def root_prefix(root: S3Root) -> str:
    return root._address.prefix  # pyright: ignore[reportPrivateUsage]


def test_a_missing_bucket_is_reported_wherever_it_is_met(
    client: "S3Client", tmp_path: Path
) -> None:
    root = S3Root(S3Address("nowhere", "p"), tmp_path, lambda: client)
    for ask in (root.check, lambda: publish(root, uuid4())):
        with pytest.raises(ResultsUnwritable, match=r"nowhere.*the bucket does not exist"):
            ask()
    for ask in (lambda: root.find("d", uuid4()), lambda: root.is_published("d", uuid4())):
        with pytest.raises(PrefectureError, match=r"nowhere.*the bucket does not exist"):
            ask()


def test_storage_that_is_away_passes(tmp_path: Path) -> None:
    client = client_of(f"http://127.0.0.1:{free_port()}", tries=1)
    try:
        root = S3Root(S3Address(BUCKET, "p"), tmp_path, lambda: client)
        for ask in (root.check, lambda: root.find("d", uuid4()), lambda: publish(root, uuid4())):
            with pytest.raises(StorageUnavailable, match="try again later"):
                ask()
        assert len(root.staged()) == 1, "whoever comes later can tell that it may be in S3"
    finally:
        client.close()
