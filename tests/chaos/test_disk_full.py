"""The results disk is full or read-only: jobs wait, or are tried again; nothing stands in part."""

import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill, is_paused
from tests.chaos.harness.platforms import trial_platform
from tests.chaos.harness.verdict import Check
from tests.support.needs import need_mounts
from tests.support.platform import Platform, wait_until

pytestmark = pytest.mark.thorough

MEGABYTE = 2**20
SIZE, WANTED = 64, 16  # megabytes: of the disk, and free for the intake to be open


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture whose results root is a disk of 64 MB."""
    need_mounts()
    home = tmp_path_factory.mktemp("disk")
    results = home / "results"
    results.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE}m", "none", str(results))
    try:
        settings = {"PREFECTURE_MIN_FREE_DISK": f"{WANTED}m"}
        with trial_platform(home, "process", settings) as platform:
            yield platform
    finally:
        subprocess.run(["umount", "--lazy", str(results)], check=True)


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


@contextmanager
def full(results: Path) -> Generator[None]:
    """While the block runs, next to nothing is free."""
    filler = results / ".filler"
    with filler.open("wb") as file:
        while (free := space(results)) > MEGABYTE:
            file.write(bytes(min(MEGABYTE, free - MEGABYTE)))
            file.flush()
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def read_only(results: Path) -> Generator[None]:
    """While the block runs, nothing can be written."""
    mount("-o", "remount,ro", str(results))
    try:
        yield
    finally:
        mount("-o", "remount,rw", str(results))


FAULTS: dict[str, Callable[[Path], Any]] = {"full": full, "read-only": read_only}


def space(results: Path) -> int:
    return shutil.disk_usage(results).free


@pytest.mark.parametrize("fault", ["full", long("read-only")])
def test_jobs_wait_meanwhile(small: Platform, check: Check, few: int, fault: str) -> None:
    drill = Drill(small, f"disk {fault}, queued")
    with FAULTS[fault](small.results):
        wait_until(lambda: is_paused(small), what="the intake is paused")
        drill.submit(few)
        assert {run["state_type"] for run in drill.runs()} == {"SCHEDULED"}
    wait_until(lambda: not is_paused(small), what="the intake is resumed")
    assert check(drill).requeued == 0


def crashed(drill: Drill) -> list[dict[str, Any]]:
    return [run for run in drill.runs() if run["state_type"] == "CRASHED"]


@pytest.mark.parametrize("fault", FAULTS)
def test_jobs_that_run_are_tried_again(small: Platform, check: Check, fault: str) -> None:
    drill = Drill(small, f"disk {fault}, running")
    jobs = drill.submit(2, gate="middle", megabytes=2)
    for job in jobs:
        drill.wait_at("middle", {job})
    with FAULTS[fault](small.results):
        for job in jobs:
            drill.release(job)
        wait_until(lambda: is_paused(small), what="the intake is paused")
        wait_until(lambda: len(crashed(drill)) >= len(jobs), what="both attempts have crashed")
        for run in crashed(drill):
            assert run["state"]["message"].startswith("infrastructure: ")
            assert "\n" not in run["state"]["message"]
    wait_until(lambda: not is_paused(small), what="the intake is resumed")
    assert check(drill).requeued >= len(jobs)


def test_a_result_that_does_not_fit(small: Platform, check: Check) -> None:
    drill = Drill(small, "result over the disk")
    # One alone: beside another that fills the disk too, it is the disk that is full for both.
    drill.submit(1, megabytes=SIZE + 1)
    assert check(drill, "FAILED").requeued == 0
    messages = {run["state"]["message"] for run in drill.runs()}
    assert all("No space left on device" in message for message in messages), messages
