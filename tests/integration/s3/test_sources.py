"""Pictures kept in S3, read by jobs in containers from a real S3 server."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import boto3
import docker
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.credentials import AwsCredentials
from pydantic import SecretStr

from tests.support.images import make_album
from tests.support.platform import Platform, platform_up
from tests.support.storage import moto_server

KEYS = {"access": "a-key-for-tests", "secret": "a-secret-for-tests"}


@dataclass
class Storage:
    """An S3 server and a Prefecture that reads from it."""

    platform: Platform
    client: Any


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Generator[Storage]:
    with moto_server() as endpoint:
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=KEYS["access"],
            aws_secret_access_key=KEYS["secret"],
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="photos")
        home = tmp_path_factory.mktemp("s3")
        settings = {"PREFECTURE_S3_CREDENTIALS": "aws-credentials/photos"}
        with platform_up(home, "docker", settings=settings) as platform:
            with temporary_settings({PREFECT_API_URL: platform.api}):
                AwsCredentials(
                    aws_access_key_id=KEYS["access"],
                    aws_secret_access_key=SecretStr(KEYS["secret"]),
                    region_name="us-east-1",
                    aws_client_parameters=AwsClientParameters(endpoint_url=endpoint),
                ).save("photos", overwrite=True)
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
    job = platform.hand_in("convert-images/high", {"source": source, "format": "webp"}, "s3")
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
    job = platform.hand_in("compress-images/high", {"source": source, "ratio": 0.5}, "s3")
    run = platform.ended(job)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed")
    assert message in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert KEYS["secret"] not in run["state"]["message"]


def test_no_secret_reaches_the_container(storage: Storage, album: None) -> None:
    client = docker.from_env()
    containers = client.containers.list(all=True, filters={"label": "prefecture=job"})
    assert containers
    for container in containers:
        assert KEYS["secret"] not in str(container.attrs)
        assert KEYS["secret"].encode() not in container.logs()
    client.close()
