"""The pictures that a job was given, where uploads are in S3: the user's own, pictures only."""

import asyncio
import io
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun
from starlette.responses import Response

from deployments.gateway.page.given import Given
from deployments.gateway.page.pictures import open_picture, pairs_of
from deployments.gateway.page.published import BEGINNING, beginning, open_published
from deployments.gateway.page.raster import shown
from tasks.contracts import S3Address
from tasks.errors import CorruptResult
from tasks.storage.results.s3 import S3Root
from tasks.storage.s3_reads import OpenObject
from tests.deployments.gateway.kept import BUCKET, Kept, in_s3, upload
from tests.support.images import photo
from tests.support.storage import moto_with
from tests.tasks.storage.results.attempts import claim, fill

PATHS = ("trip/a.jpg", "trip/sub/b.png", "trip/c[1].jpg", "trip/text.jpg", "other.jpg")


def jpeg() -> bytes:
    file = io.BytesIO()
    photo(60, 40).save(file, "JPEG")
    return file.getvalue()


JPEG = jpeg()
LONG = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Generator[Kept]:
    inputs = tmp_path_factory.mktemp("inputs")
    with moto_with(BUCKET) as server, in_s3(inputs, server) as kept:
        for path in PATHS:
            upload(kept.uploads(), path, b"<script>" if "text" in path else JPEG)
        upload(kept.uploads(), "secret.jpg", JPEG, user="bob")
        yield kept


async def sent(response: Response) -> httpx.Response:
    """What a client gets."""
    transport = httpx.ASGITransport(response)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.get("/")


def given(kept: Kept, path: str, user: str = "anna") -> Given:
    """What a job of anna was given: files of a user."""
    source = kept.store.source(user, path) if path else f"s3://{BUCKET}/{kept.prefix}/users/{user}"
    payload = {"source": source, "ratio": 0.5}
    run = FlowRun(flow_id=uuid4(), parameters={"payload": payload}, tags=["user:anna", "trip"])
    return Given(run, kept.inputs, kept.store)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("trip", {"a.jpg", "sub/b.png", "c[1].jpg", "text.jpg"}),
        ("trip/", {"a.jpg", "sub/b.png"}),
        ("trip/a.jpg", {"a.jpg"}),
        ("trip/*.jpg", {"a.jpg", "c[1].jpg"}),
        ("trip/c[1].jpg", {"c[1].jpg"}),
        ("**/*.png", {"trip/sub/b.png"}),
        ("*.jpg", {"other.jpg"}),
        ("", {"trip/a.jpg", "other.jpg"}),
    ],
)
def test_a_picture_is_found_by_its_name_in_the_source(
    kept: Kept, path: str, names: set[str]
) -> None:
    source = given(kept, path)
    assert source.there(names | {"gone.jpg"}) == names
    for name in names:
        opened = source.open(name)
        assert isinstance(opened, OpenObject), name
        opened.close()
    for name in ("gone.jpg", "../other.jpg", "/trip/a.jpg", "x" * 2000):
        assert source.open(name) is None, name


@pytest.mark.parametrize("path", ["secret.jpg", "", "*"])
def test_no_picture_of_another_user_is_opened(kept: Kept, path: str) -> None:
    source = given(kept, path, user="bob")
    assert source.there({"secret.jpg"}) == set()
    assert source.open("secret.jpg") is None


def test_a_picture_is_sent_as_one_and_nothing_else_is(kept: Kept) -> None:
    source = given(kept, "trip")
    opened = source.open("a.jpg")
    assert opened is not None
    response = shown(opened)
    assert response is not None
    answer = asyncio.run(sent(response))
    assert answer.content == JPEG
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-length"] == str(len(JPEG))
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"] == "inline"
    text = source.open("text.jpg")
    assert text is not None
    assert shown(text) is None


def test_results_in_s3_are_shown_too(kept: Kept, tmp_path: Path) -> None:
    assert kept.client is not None
    client = kept.client
    root = S3Root(S3Address(BUCKET, f"{kept.prefix}/results"), tmp_path, lambda: client)
    report = {"source": "a.jpg", "output": "a.webp", "bytes_in": len(JPEG), "reason": ""}
    with root.open_stage("smaller", uuid4(), uuid4()) as stage:
        fill(stage.files, {"a.webp": JPEG, "manifest.txt": b"1", "long.txt": LONG})
        made = claim(uuid4(), 1, stage.store()).model_copy(
            update={"summary": {"reports": [report]}}
        )
        result = stage.publish(made)
    source = given(kept, "trip")
    (pair,) = pairs_of(result, source)
    assert (pair.before, pair.after, pair.bytes_after) == ("a.jpg", "a.webp", len(JPEG))
    for side, path in (("before", "a.jpg"), ("after", "a.webp")):
        opened = open_picture(result, source, side, path)
        assert opened is not None
        response = shown(opened)
        assert response is not None
        assert asyncio.run(sent(response)).content == JPEG
    for side, path in (("before", "c[1].jpg"), ("before", "a.webp"), ("after", "a.jpg")):
        assert open_picture(result, source, side, path) is None, "it is not the job's"
    text = open_picture(result, source, "after", "manifest.txt")
    assert text is not None
    assert shown(text) is None
    text = open_published(result, "manifest.txt")
    assert text is not None
    assert beginning(text) == b"1"
    long = open_published(result, "long.txt")
    assert long is not None
    assert beginning(long) == LONG[:BEGINNING]
    (key,) = (name for name in kept.keys() if name.endswith("a.webp"))  # noqa: SIM118  # no dict
    client.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(CorruptResult):
        open_picture(result, source, "after", "a.webp")


def test_files_on_the_disk_are_not_looked_for_in_s3(kept: Kept) -> None:
    (kept.inputs / "album").mkdir()
    (kept.inputs / "album" / "a.jpg").write_bytes(JPEG)
    run = FlowRun(flow_id=uuid4(), parameters={"payload": {"source": "album"}}, tags=["user:anna"])
    source = Given(run, kept.inputs, kept.store)
    assert source.there({"a.jpg", "b.jpg"}) == {"a.jpg"}
    assert source.open("a.jpg") == kept.inputs / "album" / "a.jpg"
    assert isinstance(source.open("a.jpg"), Path)
