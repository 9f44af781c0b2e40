"""s3:// sources against a real S3 protocol server: moto's, over HTTP on 127.0.0.1."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.errors import FileUnreadable, SourceNotFound
from tasks.storage.inputs.local import Unreadable
from tasks.storage.inputs.s3 import connect, find_each_object, find_objects, is_s3
from tests.support.storage import moto_server
from tests.tasks.s3 import BUCKET, check_message, client_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with moto_server() as address:
        yield address


@pytest.fixture(scope="module")
def everything(address: str) -> "S3Client":
    client = client_of(address)
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def s3(everything: "S3Client") -> Iterator["S3Client"]:
    """A client of a server whose bucket is empty before and after."""
    yield everything
    for page in everything.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        keys = [{"Key": item.get("Key", "")} for item in page.get("Contents", [])]
        if keys:
            everything.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})  # pyright: ignore[reportArgumentType]  # {"Key"} is all that is needed


def put(s3: "S3Client", *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket=BUCKET, Key=key, Body=key.encode())


def names_of(source: str, s3: "S3Client") -> list[str]:
    names = [found.name for found in find_objects(source, s3)]
    assert names == sorted(set(names)), "sorted, each once"
    return names


@pytest.mark.parametrize(
    ("source", "expected"),
    [("s3://b/k", True), ("s3://", True), ("S3://b", False), ("a/s3://b", False), ("", False)],
)
def test_address_is_known_by_its_scheme(source: str, expected: bool) -> None:
    assert is_s3(source) is expected


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("a.jpg", ["a.jpg"]),
        ("trip/b.jpg", ["b.jpg"]),
        ("trip", ["2026/c.jpg", "2026/d.png", "b.jpg"]),
        ("trip/", ["2026/c.jpg", "2026/d.png", "b.jpg"]),
        ("trip/2026/", ["c.jpg", "d.png"]),
        ("", ["a.jpg", "trip/2026/c.jpg", "trip/2026/d.png", "trip/b.jpg", "trips/e.jpg"]),
        ("trip/2026/*.jpg", ["c.jpg"]),
        ("trip/2026/?.png", ["d.png"]),
        ("trip/2026/[cx].*", ["c.jpg"]),
        ("trip/2026/[!c].*", ["d.png"]),
        ("trip*/e.jpg", ["trips/e.jpg"]),
        ("trip/**/*.jpg", ["2026/c.jpg", "b.jpg"]),
        ("trip/**", ["2026/c.jpg", "2026/d.png", "b.jpg"]),
        ("trip/*/*", ["2026/c.jpg", "2026/d.png"]),
        ("**/[ce].jpg", ["trip/2026/c.jpg", "trips/e.jpg"]),
        ("**/2026/**/*.png", ["trip/2026/d.png"]),
    ],
)
def test_address_names_objects(s3: "S3Client", source: str, names: list[str]) -> None:
    put(s3, "a.jpg", "trip/b.jpg", "trip/2026/c.jpg", "trip/2026/d.png", "trips/e.jpg")
    assert names_of(f"s3://{BUCKET}/{source}", s3) == names


def test_bucket_without_a_slash_is_the_whole_bucket(s3: "S3Client") -> None:
    put(s3, "a.jpg", "b/c.jpg")
    assert names_of(f"s3://{BUCKET}", s3) == ["a.jpg", "b/c.jpg"]


def test_star_stays_inside_one_segment_as_it_does_on_a_disk(s3: "S3Client") -> None:
    put(s3, "trip/a.jpg", "trip/sub/b.jpg")
    assert names_of(f"s3://{BUCKET}/trip/*.jpg", s3) == ["a.jpg"]


def test_literal_key_wins_over_the_glob_it_looks_like(s3: "S3Client") -> None:
    put(s3, "set [1].jpg", "set 1.jpg")
    assert names_of(f"s3://{BUCKET}/set [1].jpg", s3) == ["set [1].jpg"]
    put(s3, "set [1]/a.jpg", "set 1/b.jpg")
    assert names_of(f"s3://{BUCKET}/set [1]", s3) == ["a.jpg"]


def test_folder_markers_are_no_objects(s3: "S3Client") -> None:
    put(s3, "trip/", "trip/a.jpg", "trip/sub/", "empty/")
    assert names_of(f"s3://{BUCKET}/trip/", s3) == ["a.jpg"]
    with pytest.raises(SourceNotFound, match="names no object"):
        find_objects(f"s3://{BUCKET}/empty/", s3)


def test_more_keys_than_one_page_holds(s3: "S3Client") -> None:
    keys = [f"many/{number:04}.jpg" for number in range(1003)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(partial(put, s3), keys))
    assert names_of(f"s3://{BUCKET}/many", s3) == [Path(key).name for key in keys]
    assert names_of(f"s3://{BUCKET}/many/1*.jpg", s3) == ["1000.jpg", "1001.jpg", "1002.jpg"]


@pytest.mark.parametrize("key", ["../../evil.jpg", "a/../../../evil.jpg", "/etc/evil.jpg", "./x"])
def test_no_key_becomes_a_name_that_leaves_its_folder(s3: "S3Client", key: str) -> None:
    # The name is where the result is written: S3 keys are any text, '..' included.
    put(s3, f"trip/{key}")
    with pytest.raises(SourceNotFound, match="cannot be a path") as refused:
        find_objects(f"s3://{BUCKET}/trip", s3)
    check_message(refused, f"'trip/{key}'")


def test_two_keys_never_share_a_name(s3: "S3Client") -> None:
    put(s3, "trip/a.jpg", "trip//a.jpg", "trip/b//c.jpg", "trip/b/c.jpg")
    with pytest.raises(SourceNotFound, match=r"'trip//a\.jpg'"):
        find_objects(f"s3://{BUCKET}/trip", s3)
    assert names_of(f"s3://{BUCKET}/trip//", s3) == ["a.jpg"]


async def test_an_object_that_changes_after_it_was_listed(s3: "S3Client", tmp_path: Path) -> None:
    put(s3, "trip/a.jpg")
    (found,) = find_objects(f"s3://{BUCKET}/trip/", s3)
    s3.put_object(Bucket=BUCKET, Key="trip/a.jpg", Body=b"something else")
    with pytest.raises(SourceNotFound, match="has changed since the job began") as refused:
        async with found.local(tmp_path):
            pytest.fail("the copy is not what was listed")
    check_message(refused, f"s3://{BUCKET}/trip/a.jpg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["a b+c&d=e.jpg", "été/日本.jpg", "100%.jpg", "tab\there", "'\".x"])
async def test_odd_keys_come_back_as_they_are(s3: "S3Client", key: str, tmp_path: Path) -> None:
    put(s3, f"odd/{key}")
    (found,) = find_objects(f"s3://{BUCKET}/odd/", s3)
    assert found.name == key
    async with found.local(tmp_path) as path:
        assert path.read_bytes() == f"odd/{key}".encode()


@pytest.mark.parametrize("source", ["no.jpg", "trip/*.gif", "tri", "trip/a.jpg/x", "trip/a.jp"])
def test_address_that_names_nothing_is_refused(s3: "S3Client", source: str) -> None:
    put(s3, "trip/a.jpg")
    with pytest.raises(SourceNotFound, match="names no object: check the bucket and the prefix"):
        find_objects(f"s3://{BUCKET}/{source}", s3)


@pytest.mark.parametrize("bucket", ["no-such-bucket", "Not A Bucket"])
def test_bucket_that_is_not_there_is_reported_in_one_line(s3: "S3Client", bucket: str) -> None:
    with pytest.raises(SourceNotFound) as refused:
        find_objects(f"s3://{bucket}/a.jpg", s3)
    check_message(refused, f"s3://{bucket}/a.jpg cannot be read: ", "ucket")


@pytest.mark.parametrize("source", ["s3://", "s3:///a.jpg"])
def test_address_without_a_bucket_is_refused(s3: "S3Client", source: str) -> None:
    with pytest.raises(SourceNotFound, match="names no bucket"):
        find_objects(source, s3)


async def test_copy_is_removed_afterwards_also_on_error(s3: "S3Client", tmp_path: Path) -> None:
    put(s3, "trip/a.JPG")
    (found,) = find_objects(f"s3://{BUCKET}/trip/a.JPG", s3)
    async with found.local(tmp_path) as path:
        assert path.parent == tmp_path
        assert path.suffix == ".JPG"
        assert path.read_bytes() == b"trip/a.JPG"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="work failed"):
        async with found.local(tmp_path):
            raise RuntimeError("work failed")
    assert list(tmp_path.iterdir()) == []


async def test_two_copies_of_one_object_do_not_meet(s3: "S3Client", tmp_path: Path) -> None:
    put(s3, "a.jpg")
    (found,) = find_objects(f"s3://{BUCKET}/a.jpg", s3)
    async with found.local(tmp_path) as one, found.local(tmp_path) as two:
        assert one != two


async def test_suffix_of_any_length_fits_the_disk(s3: "S3Client", tmp_path: Path) -> None:
    put(s3, "long/a." + "x" * 250)
    (found,) = find_objects(f"s3://{BUCKET}/long", s3)
    async with found.local(tmp_path) as path:
        assert path.is_file()


async def test_object_that_vanishes_between_listing_and_fetching(
    s3: "S3Client", tmp_path: Path
) -> None:
    put(s3, "trip/a.jpg")
    (found,) = find_objects(f"s3://{BUCKET}/trip/", s3)
    s3.delete_object(Bucket=BUCKET, Key="trip/a.jpg")
    with pytest.raises(SourceNotFound) as refused:
        async with found.local(tmp_path):
            pytest.fail("there is nothing to fetch")
    check_message(refused, f"s3://{BUCKET}/trip/a.jpg cannot be read: ", "404")
    assert list(tmp_path.iterdir()) == []


async def test_source_without_credentials_names_the_setting() -> None:
    with pytest.raises(SourceNotFound, match="PREFECTURE_S3_CREDENTIALS"):
        await connect(None)


def test_each_key_that_cannot_be_a_path_says_why(s3: "S3Client") -> None:
    put(s3, "odd/a.jpg", "odd//b.jpg", "odd/../c.jpg")
    found = find_each_object(f"s3://{BUCKET}/odd/", s3)
    bad = {each.name: each.reason for each in found if isinstance(each, Unreadable)}
    assert [each.name for each in found if each.name not in bad] == ["a.jpg"]
    assert set(bad) == {"/b.jpg", "../c.jpg"}
    assert all("cannot be a path" in reason for reason in bad.values())


def test_archived_or_vanished_object_says_so(s3: "S3Client", tmp_path: Path) -> None:
    put(s3, "trip/gone.jpg")
    s3.put_object(Bucket=BUCKET, Key="trip/cold.jpg", Body=b"x", StorageClass="GLACIER")
    cold, gone = find_objects(f"s3://{BUCKET}/trip/", s3)
    s3.delete_object(Bucket=BUCKET, Key="trip/gone.jpg")
    with pytest.raises(FileUnreadable) as refused:
        cold.download(tmp_path / "cold.jpg")
    assert refused.value.reason == (
        "cannot be read: it is archived (Glacier): restore it first (InvalidObjectState)"
    )
    with pytest.raises(FileUnreadable, match=r"gone\.jpg cannot be read: it does not exist any"):
        gone.download(tmp_path / "gone.jpg")
