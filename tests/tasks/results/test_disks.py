"""A disk that is full or read-only, for real: a small tmpfs in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from tasks.errors import ResultsUnwritable
from tasks.results import local
from tests.tasks.results.attempts import left_in_staging, publish

ROOT = Path(__file__).parents[3]
JOB = UUID(int=7)
DIRECTORY = "holiday"


def attempt(root: Path, size: int) -> str:
    """The message of the error that an attempt ends with, after a look at what it left behind."""
    try:
        publish(root, DIRECTORY, JOB, content={"a": b"a" * size, "deep/b": b"b" * size})
    except ResultsUnwritable as error:
        assert local.find(root, JOB) is None
        assert left_in_staging(root) == []
        return str(error)
    return "published"


def on_small_disk(root: Path, options: str, size: int) -> str:
    """Run `attempt` in a process that sees a tmpfs with these mount options at `root`."""
    root.mkdir()
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    python = [sys.executable, "-m", "tests.tasks.results.test_disks", str(root), str(size)]
    # A user namespace makes this work without root as well.
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, "sh"]
    ended = subprocess.run(
        [*unshare, options, str(root), *python],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(root.iterdir()) == [], "the disk was not a disk of its own"
    return ended.stdout.strip()


def check_one_line(message: str, root: Path, reason: str) -> None:
    assert message == (
        f"results cannot be written under {root}: {reason}: free space there or give the worker's "
        "user write access, then submit again"
    )


def test_disk_with_room(tmp_path: Path) -> None:
    assert on_small_disk(tmp_path / "results", "size=1m", 1000) == "published"


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param("nr_inodes=3", 10, id="the stage"),
        pytest.param("nr_inodes=9", 10, id="the manifest"),
        pytest.param("nr_inodes=10", 10, id="the directory"),
        pytest.param("size=512k", 256 * 1024, id="the manifest's text"),
    ],
)
def test_disk_without_room_for(tmp_path: Path, options: str, size: int) -> None:
    message = on_small_disk(tmp_path / "results", options, size)
    check_one_line(message, tmp_path / "results", "No space left on device")


def test_read_only_disk(tmp_path: Path) -> None:
    message = on_small_disk(tmp_path / "results", "ro,size=1m", 10)
    check_one_line(message, tmp_path / "results", "Read-only file system")


if __name__ == "__main__":
    print(attempt(Path(sys.argv[1]), int(sys.argv[2])))
