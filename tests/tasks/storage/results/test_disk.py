"""Whose fault it is that results cannot be written: everyone's, or one job's."""

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from tasks.contracts import INFRASTRUCTURE
from tasks.errors import InvalidPayload
from tasks.runtime import final_state
from tasks.settings import Settings
from tasks.storage.results import local_files
from tasks.storage.results.disk import disk_fault, disk_fault_of
from tests.tasks.small_disks import on_small_disk

ME = "tests.tasks.storage.results.test_disk"
USER = "10001:10001"
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "closed" / "results"
    (folder / local_files.STAGING).mkdir(parents=True)
    folder.parent.chmod(0o700)  # a container sees the results without what is above them
    return folder


def say(root: Path, fill: str) -> str:
    """What is wrong with a disk on which all but so many kilobytes are taken."""
    if fill != "ro":
        (root / local_files.STAGING).mkdir()
        with (root / ".filler").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
        os.truncate(root / ".filler", (root / ".filler").stat().st_size - int(fill) * 1024)
    return str(disk_fault(root, 16 * 1024))


@pytest.mark.parametrize(
    ("options", "fill", "said"),
    [
        ("size=1m", "0", "No space left on device"),
        ("size=1m", "8", "0 MiB free under "),
        ("size=1m", "64", "None"),
        ("ro,size=1m", "ro", ""),
    ],
)
def test_a_disk_that_is_full_or_read_only(
    tmp_path: Path, options: str, fill: str, said: str
) -> None:
    found = on_small_disk(tmp_path / "results", options, ME, tmp_path / "results", fill)
    assert said in found
    assert (found == "None") is (said == "None")


@as_root
def test_the_disk_is_asked_about_as_the_user_that_jobs_run_as(root: Path) -> None:
    fault = disk_fault_of(USER, root, 0)
    assert disk_fault(root, 0) is None, "root can"
    assert fault is not None
    assert "cannot be written under" in fault
    assert "for 10001:10001, which jobs run as: Permission denied" in fault
    os.chown(root, 10001, 10001)
    assert disk_fault_of(USER, root, 0) is not None, "its staging folder is not theirs"
    os.chown(root / local_files.STAGING, 10001, 10001)
    assert disk_fault_of(USER, root, 0) is None
    assert list((root / local_files.STAGING).iterdir()) == []
    root.chmod(0o500)
    assert disk_fault_of(USER, root, 0) is not None
    assert disk_fault_of("0:0", root, 0) is None


@as_root
def test_a_group_may_write_too(root: Path) -> None:
    for folder in (root, root / local_files.STAGING):
        os.chown(folder, 0, 10001)
        folder.chmod(0o770)
    assert disk_fault_of(USER, root, 0) is None
    assert disk_fault_of("10001:5", root, 0) is not None


@pytest.fixture
def settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings.model_validate({"results_root": str(root), "min_free_disk": 0})
    monkeypatch.setattr(final_state, "get_settings", lambda: settings)
    return settings


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EIO])
async def test_what_keeps_everyone_from_writing_is_no_jobs_fault(
    root: Path, settings: Settings, number: int
) -> None:
    error = OSError(number, os.strerror(number), str(root / "holiday"))
    (root / local_files.STAGING).rmdir()
    with disable_run_logger():
        for one in (error, local_files.unwritable(root, error)):
            state = await final_state.state_for(one)
            assert state.is_crashed()
            assert (state.message or "").startswith(
                f"{INFRASTRUCTURE}results cannot be written under {root}/.staging: "
            )


async def test_what_keeps_one_job_from_writing_is_its_own(root: Path, settings: Settings) -> None:
    with disable_run_logger():
        for number in (errno.ENOSPC, errno.EACCES, errno.ENAMETOOLONG):
            state = await final_state.state_for(
                local_files.unwritable(root, OSError(number, "why"))
            )
            assert state.is_failed()
        state = await final_state.state_for(OSError(errno.ENOSPC, "No space left on device"))
        assert state.is_failed()
        state = await final_state.state_for(InvalidPayload("payload: no"))
        assert state.is_failed()
        with pytest.raises(PermissionError):
            await final_state.state_for(PermissionError(errno.EACCES, "a file of its own"))


if __name__ == "__main__":
    print(say(Path(sys.argv[1]), sys.argv[2]))
