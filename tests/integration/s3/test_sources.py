"""What is kept in S3, read by jobs in containers from a real S3 server."""

import io
import tarfile
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import docker
import pytest

from tests.integration.run_container.jobs import IMAGE, built_images, failed, real, submit_job
from tests.support.containers import which_may_be_gone
from tests.support.images import make_album
from tests.support.platform import Platform, platform_up
from tests.support.storage import KEYS, client_of, moto_server, save_aws_block

pytestmark = pytest.mark.thorough


@dataclass
class Storage:
    """An S3 server and a Prefecture that reads from it."""

    platform: Platform
    client: Any


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Storage]:
    with moto_server() as endpoint:
        client = client_of(endpoint)
        client.create_bucket(Bucket="photos")
        home = tmp_path_factory.mktemp("s3")
        settings = {"PREFECTURE_S3_CREDENTIALS": "aws-credentials/photos"}
        with platform_up(home, "docker", settings=settings) as platform:
            save_aws_block(platform, "photos", endpoint)
            yield Storage(platform, client)


@pytest.fixture(scope="module")
def album(storage: Storage, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The usual pictures, those that are whole, as objects under `trip/`."""
    folder = tmp_path_factory.mktemp("pictures") / "trip"
    make_album(folder)
    for name in ("a.jpg", "b.jpg", "sub/e.jpg"):
        storage.client.upload_file(str(folder / name), "photos", f"trip/{name}")


@pytest.mark.parametrize(
    ("source", "published"),
    [
        ("s3://photos/trip/", ["a.webp", "b.webp", "sub/e.webp"]),
        ("s3://photos/trip/*.jpg", ["a.webp", "b.webp"]),
        ("s3://photos/trip/sub/e.jpg", ["e.webp"]),
    ],
)
def test_objects_a_prefix_and_a_glob(
    storage: Storage, album: None, source: str, published: list[str]
) -> None:
    platform = storage.platform
    job = platform.submit_job("convert-images/high", {"source": source, "format": "webp"}, "s3")
    folder = platform.completed(job, "s3")
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.webp"))
    assert found == published
    assert not list((platform.results / ".staging").glob("*"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("s3://photos/nothing/", "names no object"),
        ("s3://nowhere/trip/", "NoSuchBucket"),
        ("s3:///trip", "names no bucket"),
    ],
)
def test_what_is_not_there(storage: Storage, album: None, source: str, message: str) -> None:
    platform = storage.platform
    job = platform.submit_job("compress-images/high", {"source": source, "ratio": 0.5}, "s3")
    run = platform.ended(job)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed")
    assert message in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert KEYS["secret"] not in run["state"]["message"]


def test_an_image_is_built_from_objects_and_from_a_tarball(storage: Storage, album: None) -> None:
    dockerfile = (
        f'FROM {IMAGE}\nRUN echo slow > /slow\nCOPY run.sh data/*.txt /\nENTRYPOINT ["/run.sh"]\n'
    )
    context = {
        "Dockerfile": real({"text": dockerfile})["text"].encode(),
        # An object has no rights: that this is to be executed stands in it.
        "run.sh": b"#!/bin/sh\ncat /data.txt > /output/data.txt\nls /input > /output/input.txt\n",
        "data/data.txt": b"from S3",
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, data in context.items():
            storage.client.put_object(Bucket="photos", Key=f"image/{name}", Body=data)
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    storage.client.put_object(Bucket="photos", Key="image.tgz", Body=packed.getvalue())
    inputs = "s3://photos/trip/"
    logs: list[str] = []
    for source in ("s3://photos/image/", "s3://photos/image.tgz"):
        job = submit_job(storage.platform, {"build": {"context": source}, "inputs": inputs})
        folder = storage.platform.completed(job, "containers")
        assert (folder / "output" / "data.txt").read_text() == "from S3"
        assert (folder / "output" / "input.txt").read_text().split() == ["a.jpg", "b.jpg", "sub"]
        assert built_images(storage.platform, job) == []
        logs.append((folder / "build.log").read_text())
    # Layers stay, when the images that were built for jobs do not.
    assert "Using cache" in logs[1]


def test_a_build_that_is_not_there_or_holds_no_dockerfile(storage: Storage, album: None) -> None:
    said = {"s3://photos/nothing/": "names no object", "s3://photos/trip/": "hold no Dockerfile"}
    jobs = {s: submit_job(storage.platform, {"build": {"context": s}}) for s in said}
    for source, job in jobs.items():
        assert said[source] in failed(storage.platform, job)


def test_no_secret_reaches_the_container(storage: Storage, album: None) -> None:
    with closing(docker.from_env(timeout=120)) as client:
        containers = client.containers.list(
            all=True, filters={"label": "prefecture=job"}, ignore_removed=True
        )
        assert containers
        for container in containers:
            assert KEYS["secret"] not in str(container.attrs)
            with which_may_be_gone():  # one of another test
                assert KEYS["secret"].encode() not in container.logs()
