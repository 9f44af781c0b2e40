"""Files of users: whole or not there, and never anywhere else; on the disk and in S3 alike."""

import errno
import hashlib
import os
import time
from collections.abc import Generator
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployments.gateway.old_uploads import OldUpload, remove_old
from deployments.gateway.uploads.receiving import FLUSHED, Uploads
from deployments.gateway.uploads.records import (
    QuotaExceeded,
    UploadBusy,
    UploadExists,
    WrongOffset,
    split,
)
from tasks.errors import InvalidPayload, SourceNotFound
from tests.deployments.gateway.kept import BUCKET, Kept, content_of, in_s3, on_disk, upload
from tests.support.storage import moto_with

FEW = 1000  # bytes


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with moto_with(BUCKET) as address:
        yield address


@pytest.fixture(params=["disk", "s3"])
def kept(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> Generator[Kept]:
    if request.param == "disk":
        yield on_disk(tmp_path)
        return
    with in_s3(tmp_path, server) as kept:
        yield kept


@pytest.fixture
def uploads(kept: Kept) -> Uploads:
    return kept.uploads(FEW)


@pytest.fixture
def to_disk(tmp_path: Path) -> Uploads:
    return on_disk(tmp_path).uploads(FEW)


def test_a_file_has_its_name_once_it_is_whole(uploads: Uploads, kept: Kept) -> None:
    with uploads.receive("anna", "a/b.csv", 0, 4, overwrite=False) as part:
        part.write(b"1\n2\n")
        assert part.sha256 == hashlib.sha256(b"1\n2\n").hexdigest()
        assert uploads.store.find("anna", "a/b.csv") is None
        done = uploads.publish("anna", "a/b.csv", part, overwrite=False)
    assert kept.files() == {"anna/a/b.csv": b"1\n2\n"}
    assert kept.arriving() == {}
    (listed,) = uploads.store.listed("anna")
    assert (listed.path, listed.bytes, listed.source) == ("a/b.csv", 4, done.source)
    assert done.source == uploads.store.source("anna", "a/b.csv")
    assert abs(listed.modified - time.time()) < 600
    assert uploads.store.users() == ["anna"]


@pytest.mark.parametrize("is_ended", [False, True])
def test_what_the_disk_could_not_keep_is_not_continued(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, is_ended: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fdatasync", fail)
    uploads = kept.uploads()
    some = bytes(FLUSHED)
    with (
        pytest.raises(OSError, match="broken") if is_ended else nullcontext(),
        uploads.receive("anna", "a.bin", 0, 2 * FLUSHED, overwrite=False) as part,
    ):
        part.write(some)
        if is_ended:
            part.write(some)
            uploads.publish("anna", "a.bin", part, overwrite=False)
    assert uploads.offset("anna", "a.bin") == 0
    assert uploads.store.find("anna", "a.bin") is None


def test_jobs_may_read_a_file_on_the_disk(to_disk: Uploads, tmp_path: Path) -> None:
    assert upload(to_disk, "a/b.csv", b"1") == "users/anna/a/b.csv"
    assert (tmp_path / "users/anna/a/b.csv").stat().st_mode & 0o777 == 0o644


def test_an_upload_that_breaks_off_is_continued(uploads: Uploads, kept: Kept) -> None:
    with uploads.receive("anna", "a", 0, 6, overwrite=False) as part:
        part.write(b"abc")
    assert uploads.offset("anna", "a") == 3
    with (
        pytest.raises(WrongOffset, match="3 bytes of 'a' have arrived"),
        uploads.receive("anna", "a", 4, 2, overwrite=False),
    ):
        pass
    with uploads.receive("anna", "a", 2, 4, overwrite=False) as part:
        part.write(b"CDEF")
        assert part.sha256 == hashlib.sha256(b"abCDEF").hexdigest()
        uploads.publish("anna", "a", part, overwrite=False)
    assert kept.files() == {"anna/a": b"abCDEF"}
    assert uploads.offset("anna", "a") is None


def test_nothing_is_overwritten_unless_it_is_asked_for(uploads: Uploads, kept: Kept) -> None:
    upload(uploads, "a", b"first")
    with pytest.raises(UploadExists):
        upload(uploads, "a", b"second")
    assert kept.files() == {"anna/a": b"first"}
    upload(uploads, "a", b"second", overwrite=True)
    assert kept.files() == {"anna/a": b"second"}


def test_one_request_uploads_a_file_at_a_time(uploads: Uploads, kept: Kept) -> None:
    with uploads.receive("anna", "a", 0, 1, overwrite=False) as part:
        with (
            pytest.raises(UploadBusy),
            uploads.receive("anna", "a", 0, 1, overwrite=False),
        ):
            pass
        part.write(b"1")
        uploads.publish("anna", "a", part, overwrite=False)
    assert kept.files() == {"anna/a": b"1"}


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../bob/a", "a/../../b", "a//b", "a/", ".uploads/x", "a/.b", "a\nb"),
        *("a" * 256, "a/" * 600 + "a", "\ud800", "a\u202eb", "a\ufffdb"),
    ],
    ids=range(14),
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidPayload, match="path: "):
        split(path)


@pytest.mark.parametrize("space", ["\u202f", "\u3000", "\xa0", "\u200d"], ids=ascii)
def test_names_have_the_spaces_that_cameras_and_phones_give(space: str) -> None:
    assert split(f"Screenshot 3.14{space}PM.png") == [f"Screenshot 3.14{space}PM.png"]


@pytest.mark.parametrize("link", ["users", "users/anna", "users/anna/a"])
def test_no_link_is_followed(to_disk: Uploads, tmp_path: Path, link: str) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}.outside"
    (outside / "anna" / "a").mkdir(parents=True)
    (outside / "anna" / "a" / "secret").write_bytes(b"old")
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside)
    with pytest.raises((InvalidPayload, NotADirectoryError)):
        upload(to_disk, "a/b", b"new")
    assert to_disk.store.find("anna", "a/secret") is None
    with pytest.raises(SourceNotFound):
        to_disk.store.delete("anna", "a/secret")
    assert content_of(outside) == {"anna/a/secret": b"old"}


def test_a_folder_is_no_file_and_a_file_no_folder(uploads: Uploads, kept: Kept) -> None:
    upload(uploads, "a/b", b"1")
    for path in ("a", "a/b/c"):
        for overwrite in (False, True):
            with (
                pytest.raises(InvalidPayload, match="choose another name, or delete what is there"),
                # It is said before the first byte is sent.
                uploads.receive("anna", path, 0, 1, overwrite=overwrite),
            ):
                pass
    assert kept.files() == {"anna/a/b": b"1"}


def test_a_user_has_so_many_bytes(uploads: Uploads) -> None:
    upload(uploads, "a", b"x" * 600)
    with pytest.raises(QuotaExceeded, match="over the limit"):
        upload(uploads, "b", b"x" * 401)
    with uploads.receive("anna", "b", 0, 300, overwrite=False), pytest.raises(QuotaExceeded):
        upload(uploads, "c", b"x" * 200)
    upload(uploads, "b", b"x" * 400)
    upload(uploads, "a", b"x" * 600, user="bob")
    uploads.store.delete("anna", "a")
    upload(uploads, "a", b"x" * 600)


def test_a_disk_that_is_nearly_full_takes_nothing(kept: Kept) -> None:
    with pytest.raises(QuotaExceeded, match="nearly full"):
        upload(kept.uploads(FEW, 2**60), "a", b"x")


def test_a_file_or_a_folder_is_listed_and_deleted(uploads: Uploads, kept: Kept) -> None:
    for path in ("a/b", "a/c/d", "ab", "e"):
        upload(uploads, path, b"1")

    def listed(under: str) -> list[str]:
        return sorted(each.path for each in uploads.store.listed("anna", under))

    assert listed("") == ["a/b", "a/c/d", "ab", "e"]
    assert (listed("a"), listed("ab"), listed("x")) == (["a/b", "a/c/d"], ["ab"], [])
    assert [*uploads.store.listed("ann")] == []
    uploads.store.delete("anna", "a")
    uploads.store.delete("anna", "e")
    assert kept.files() == {"anna/ab": b"1"}
    for path in ("a", "x", "ab/c"):
        with pytest.raises(SourceNotFound):
            uploads.store.delete("anna", path)
    for path in ("../bob", "", "a//b"):
        with pytest.raises(InvalidPayload, match="path: "):
            uploads.store.delete("anna", path)


def test_sources_that_name_no_upload(uploads: Uploads) -> None:
    store = uploads.store
    for path in ("a/b.csv", "a/c[1].csv", "ab/d.csv"):
        upload(uploads, path, b"1")
    there = ("a/b.csv", "a", "a/", "a/*.csv", "a/c[1].csv", "**/d.*", "*/*", "a/?.csv")
    gone = ("a/b", "a/x.csv", "b", "a/b.csv/x", "a/*.npy", "c/*", "a/c[2].csv")
    for missing, paths in ((False, there), (True, gone)):
        sources = [f"{store.source('anna', '')}{path}" for path in paths]
        assert [store.is_missing(source) for source in sources] == [missing] * len(paths), paths
    for path in ("a/b.csv", ""):
        assert store.is_missing(store.source("bob", path))
    assert not store.is_missing(store.source("anna", ""))
    store.delete("anna", "a")
    assert store.is_missing(store.source("anna", "a"))
    # What no user has uploaded is not looked for.
    for source in ("a/b.csv", "users", "s3://other/users/anna/x", "job://x/y", "../users/anna/x"):
        assert not store.is_missing(source)


def test_what_nobody_continues_is_removed(uploads: Uploads, tmp_path: Path) -> None:
    with uploads.receive("anna", "a", 0, 6, overwrite=False) as part:
        part.write(b"abc")
    (old,) = (tmp_path / "users/anna/.uploads").iterdir()
    os.utime(old, (0, 0))
    upload(uploads, "b", b"1")
    assert uploads.offset("anna", "a") is None


def test_old_files_are_removed_unless_they_are_new(uploads: Uploads, kept: Kept) -> None:
    for path in ("a", "b/c"):
        upload(uploads, path, b"1")
    found = [OldUpload("anna", file) for file in uploads.store.listed("anna")]
    now = datetime.now(UTC)
    assert remove_old(uploads.store, found, now - timedelta(hours=1)) == 0
    uploads.store.delete("anna", "a")
    assert remove_old(uploads.store, found, now + timedelta(hours=1)) == 1
    assert kept.files() == {}


def test_folders_that_have_long_been_empty_are_removed(to_disk: Uploads, tmp_path: Path) -> None:
    for path in ("a/b/c", "d/e"):
        upload(to_disk, path, b"1")
    to_disk.store.delete("anna", "a/b/c")
    assert to_disk.store.users() == ["anna"]
    to_disk.store.remove_empty("anna", 0.0)
    assert (tmp_path / "users/anna/a/b").is_dir()
    to_disk.store.remove_empty("anna", time.time() + 1)
    assert [path.name for path in (tmp_path / "users/anna").iterdir()] == [".uploads", "d"]
