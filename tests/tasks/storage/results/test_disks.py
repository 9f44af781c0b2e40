"""Publishing to, and copying to, a disk that is full or read-only."""

import sys
from pathlib import Path
from uuid import UUID

import pytest

from tasks.errors import PrefectureError, ResultsUnwritable
from tasks.storage.results import local_files
from tests.tasks.small_disks import on_small_disk
from tests.tasks.storage.results.attempts import left_in_staging, publish

JOB = UUID(int=7)
DIRECTORY = "holiday"
ME = "tests.tasks.storage.results.test_disks"


def attempt(root: Path, size: int) -> str:
    """The message of the error that an attempt ends with, after a look at what it left behind."""
    try:
        publish(root, DIRECTORY, JOB, content={"a": b"a" * size, "deep/b": b"b" * size})
    except ResultsUnwritable as error:
        assert local_files.find(root, JOB) is None
        assert left_in_staging(root) == []
        return str(error)
    return "published"


def copy(result: Path, target: Path) -> str:
    try:
        local_files.copy(result, local_files.read_manifest(result), target)
    except PrefectureError as error:
        assert not (target / local_files.MANIFEST).exists()
        return str(error)
    return "copied"


def check_one_line(message: str, root: Path, reason: str) -> None:
    assert message == (
        f"results cannot be written under {root}: {reason}: free space there or give the worker's "
        "user write access, then submit again"
    )


def test_disk_with_room(tmp_path: Path) -> None:
    root = tmp_path / "results"
    assert on_small_disk(root, "size=1m", ME, "attempt", root, 1000) == "published"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param("nr_inodes=3", 10, id="the stage"),
        pytest.param("nr_inodes=8", 10, id="the manifest"),
        pytest.param("nr_inodes=9", 10, id="the directory"),
        pytest.param("size=512k", 256 * 1024, id="the manifest's text"),
    ],
)
def test_disk_without_room_for(tmp_path: Path, options: str, size: int) -> None:
    root = tmp_path / "results"
    message = on_small_disk(root, options, ME, "attempt", root, size)
    check_one_line(message, root, "No space left on device")


def test_read_only_disk(tmp_path: Path) -> None:
    root = tmp_path / "results"
    message = on_small_disk(root, "ro,size=1m", ME, "attempt", root, 10)
    check_one_line(message, root, "Read-only file system")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("size=64k", "No space left on device"),
        ("nr_inodes=2", "No space left on device"),
        ("ro", "Read-only file system"),
    ],
)
def test_copy_to_a_disk_that_cannot_hold_it_names_the_target(
    tmp_path: Path, options: str, reason: str
) -> None:
    publish(tmp_path / "results", DIRECTORY, JOB)
    result, disk = tmp_path / "results" / DIRECTORY / str(JOB), tmp_path / "disk"
    message = on_small_disk(disk, options, ME, "copy", result, disk / "to")
    assert message == (
        f"{result} cannot be copied to {disk / 'to'}: {reason}: free space there, "
        "or name another folder"
    )


if __name__ == "__main__":
    if sys.argv[1] == "copy":
        print(copy(Path(sys.argv[2]), Path(sys.argv[3])))
    else:
        print(attempt(Path(sys.argv[2]), int(sys.argv[3])))
