"""Files of users below the inputs root: whole or not there, and never anywhere else."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from deployments.gateway.uploads import (
    QuotaExceeded,
    UploadBusy,
    UploadExists,
    Uploads,
    WrongOffset,
    split,
)
from tasks.errors import InvalidPayload, SourceNotFound

FEW = 1000  # bytes


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    return Uploads(tmp_path, FEW, 0)


def upload(uploads: Uploads, path: str, content: bytes, user: str = "anna", **more: bool) -> str:
    overwrite = more.get("overwrite", False)
    with uploads.receive(user, path, 0, len(content), overwrite=overwrite) as part:
        part.write(content)
        assert part.sha256 == hashlib.sha256(content).hexdigest()
        return uploads.publish(user, path, part, overwrite=overwrite).source


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_file_has_its_name_once_it_is_whole(uploads: Uploads, tmp_path: Path) -> None:
    with uploads.receive("anna", "a/b.csv", 0, 4, overwrite=False) as part:
        part.write(b"1\n2\n")
        assert uploads.find("anna", "a/b.csv") is None
        uploads.publish("anna", "a/b.csv", part, overwrite=False)
    assert files(tmp_path) == {"users/anna/a/b.csv": b"1\n2\n"}
    assert (tmp_path / "users/anna/a/b.csv").stat().st_mode & 0o777 == 0o644
    assert [each.path for each in uploads.listed("anna")] == ["a/b.csv"]


def test_an_upload_that_breaks_off_is_continued(uploads: Uploads, tmp_path: Path) -> None:
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
    assert files(tmp_path) == {"users/anna/a": b"abCDEF"}


def test_nothing_is_overwritten_unless_it_is_asked_for(uploads: Uploads, tmp_path: Path) -> None:
    upload(uploads, "a", b"first")
    with pytest.raises(UploadExists):
        upload(uploads, "a", b"second")
    assert files(tmp_path) == {"users/anna/a": b"first"}
    upload(uploads, "a", b"second", overwrite=True)
    assert files(tmp_path) == {"users/anna/a": b"second"}


def test_one_request_uploads_a_file_at_a_time(uploads: Uploads, tmp_path: Path) -> None:
    with uploads.receive("anna", "a", 0, 1, overwrite=False) as part:
        with (
            pytest.raises(UploadBusy),
            uploads.receive("anna", "a", 0, 1, overwrite=False),
        ):
            pass
        part.write(b"1")
        uploads.publish("anna", "a", part, overwrite=False)
    assert files(tmp_path) == {"users/anna/a": b"1"}


@pytest.mark.parametrize(
    "path",
    [
        *("", "/etc/passwd", "../bob/a", "a/../../b", "a//b", "a/", ".uploads/x", "a/.b", "a\nb"),
        *("a" * 256, "a/" * 600 + "a", "\ud800"),
    ],
    ids=range(12),
)
def test_paths_that_are_none(path: str) -> None:
    with pytest.raises(InvalidPayload, match="path: "):
        split(path)


@pytest.mark.parametrize("link", ["users", "users/anna", "users/anna/a"])
def test_no_link_is_followed(uploads: Uploads, tmp_path: Path, link: str) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}.outside"
    (outside / "anna" / "a").mkdir(parents=True)
    (outside / "anna" / "a" / "secret").write_bytes(b"old")
    place = tmp_path / link
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside)
    with pytest.raises((InvalidPayload, NotADirectoryError)):
        upload(uploads, "a/b", b"new")
    assert uploads.find("anna", "a/secret") is None
    with pytest.raises(SourceNotFound):
        uploads.delete("anna", "a/secret")
    assert files(outside) == {"anna/a/secret": b"old"}


def test_a_folder_is_no_file_and_a_file_no_folder(uploads: Uploads) -> None:
    upload(uploads, "a/b", b"1")
    for path in ("a", "a/b/c"):
        for overwrite in (False, True):
            with pytest.raises((InvalidPayload, UploadExists)):
                upload(uploads, path, b"2", overwrite=overwrite)


def test_a_user_has_so_many_bytes(uploads: Uploads) -> None:
    upload(uploads, "a", b"x" * 600)
    with pytest.raises(QuotaExceeded, match="over the limit"):
        upload(uploads, "b", b"x" * 401)
    with uploads.receive("anna", "b", 0, 300, overwrite=False), pytest.raises(QuotaExceeded):
        upload(uploads, "c", b"x" * 200)
    upload(uploads, "b", b"x" * 400)
    upload(uploads, "a", b"x" * 600, user="bob")
    uploads.delete("anna", "a")
    upload(uploads, "a", b"x" * 600)


def test_a_disk_that_is_nearly_full_takes_nothing(tmp_path: Path) -> None:
    with pytest.raises(QuotaExceeded, match="nearly full"):
        upload(Uploads(tmp_path, FEW, 2**60), "a", b"x")


def test_a_folder_is_deleted_with_its_files(uploads: Uploads, tmp_path: Path) -> None:
    for path in ("a/b", "a/c/d", "e"):
        upload(uploads, path, b"1")
    uploads.delete("anna", "a")
    assert files(tmp_path) == {"users/anna/e": b"1"}
    with pytest.raises(SourceNotFound):
        uploads.delete("anna", "a")


def test_what_nobody_continues_is_removed(uploads: Uploads, tmp_path: Path) -> None:
    with uploads.receive("anna", "a", 0, 6, overwrite=False) as part:
        part.write(b"abc")
    (old,) = (tmp_path / "users/anna/.uploads").iterdir()
    os.utime(old, (0, 0))
    upload(uploads, "b", b"1")
    assert uploads.offset("anna", "a") is None


def test_folders_that_have_long_been_empty_are_removed(uploads: Uploads, tmp_path: Path) -> None:
    for path in ("a/b/c", "d/e"):
        upload(uploads, path, b"1")
    uploads.delete("anna", "a/b/c")
    assert uploads.users() == ["anna"]
    uploads.remove_empty("anna", 0.0)
    assert (tmp_path / "users/anna/a/b").is_dir()
    uploads.remove_empty("anna", time.time() + 1)
    assert [path.name for path in (tmp_path / "users/anna").iterdir()] == [".uploads", "d"]
