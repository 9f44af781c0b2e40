"""The harness itself: nothing is wrong where nothing happened, and it sees what is."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.contracts import Manifest
from tasks.storage.results import local_files
from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.results import places, wrong_with
from tests.chaos.harness.verdict import Check, Verdict
from tests.support.platform import Platform
from tests.support.processes import frozen, supervisor


@pytest.mark.thorough
@on("docker", long("process"))
def test_nothing_happens(trials: Platform, check: Check, few: int) -> None:
    drill = Drill(trials, "none")
    drill.submit(few)
    assert check(drill).requeued == 0


@pytest.mark.thorough
def test_it_sees_a_lost_job_and_its_return(process_trials: Platform, check: Check) -> None:
    drill = Drill(process_trials, "SIGKILL, supervisor frozen")
    (job,) = drill.submit(1, gate="middle")
    drill.wait_at("middle", {job})
    with frozen(supervisor(process_trials)):
        drill.kill_at("middle", job)
        verdict = Verdict(drill, "COMPLETED", timeout=5, tidy=1)
        assert verdict.row.lost == 1
        assert f"job {job} did not end COMPLETED: ['1 Crashed']" in verdict.text
    assert check(drill).requeued == 1


@pytest.fixture
def result(tmp_path: Path) -> tuple[Path, UUID]:
    """A published result of two files."""
    job = uuid4()
    now = datetime.now(UTC)
    with local_files.open_stage(tmp_path, "drill/0", job, job) as stage:
        (stage.files / "a").write_text("a")
        (stage.files / "b").mkdir()
        (stage.files / "b" / "c").write_text("c")
        manifest = Manifest(
            job=job,
            task="trial",
            attempt=1,
            flow_run=job,
            parameters={},
            submitted=now,
            started=now,
            published=now,
            summary={},
            files=local_files.inventory(stage.files),
        )
        local_files.publish(stage, manifest)
    return tmp_path / "drill" / "0" / str(job), job


def test_it_takes_a_good_result(result: tuple[Path, UUID], tmp_path: Path) -> None:
    folder, job = result
    assert wrong_with(folder, job) == ""
    assert places(tmp_path, "drill") == {str(job): [folder]}


HARM: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (lambda folder: (folder / "a").write_text("b"), "not the file that was published"),
    "missing": (lambda folder: (folder / "a").unlink(), "not the file that was published"),
    "extra": (lambda folder: (folder / "extra").write_text(""), "besides"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "no manifest"),
    "half": (lambda folder: (folder / "manifest.json").write_text("{"), "cannot be read"),
}


@pytest.mark.parametrize("harm", HARM)
def test_it_sees_a_partial_result(result: tuple[Path, UUID], tmp_path: Path, harm: str) -> None:
    folder, job = result
    for file in folder.iterdir():
        file.chmod(0o600)  # a result is read-only
    do, seen = HARM[harm]
    do(folder)
    assert seen in wrong_with(folder, job)
    assert places(tmp_path, "drill") == {str(job): [folder]}


def test_it_sees_another_jobs_result(result: tuple[Path, UUID]) -> None:
    folder, job = result
    assert f"is of job {job}" in wrong_with(folder, uuid4())


def test_it_sees_a_second_result(result: tuple[Path, UUID], tmp_path: Path) -> None:
    folder, job = result
    shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    assert len(places(tmp_path, "drill")[str(job)]) == 2
