"""What stands in the results root, and the command that reads it."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.platform import Platform, free_port


def test_two_jobs_into_the_same_directory(platform: Platform) -> None:
    jobs = [
        platform.submit_job("find-primes/normal", {"upper_bound": bound}, "shared/2026")
        for bound in (100, 1000)
    ]
    folders = [platform.completed(job, "shared/2026") for job in jobs]
    counts = [platform.manifest(job, "shared/2026")["summary"]["count"] for job in jobs]
    assert counts == [25, 168]
    assert sorted(path.name for path in folders[0].parent.iterdir()) == sorted(map(str, jobs))


def test_a_directory_named_after_a_job_is_refused(process_platform: Platform) -> None:
    first = process_platform.submit_job("find-primes/normal", {"upper_bound": 10}, "outer")
    folder = process_platform.completed(first, "outer")
    inner = f"outer/{first}"
    second = process_platform.ended(
        process_platform.submit_job("find-primes/normal", {"upper_bound": 10}, inner)
    )
    assert second["state_type"] == "FAILED"
    assert "or a job id" in second["state"]["message"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "primes.parquet"]


def test_results_are_listed_copied_and_checked(platform: Platform, tmp_path: Path) -> None:
    job = platform.submit_job("convert-images/normal", {"source": "album", "format": "png"}, "read")
    folder = platform.completed(job, "read")
    shown = platform.command("prefecture", "results", str(job))
    assert shown.returncode == 0, shown.stderr
    assert "sub/e.png" in shown.stdout
    assert "5 files" in shown.stdout

    copied = platform.command("prefecture", "results", str(job), "--to", str(tmp_path / "new"))
    assert copied.returncode == 0, copied.stderr
    for path in folder.rglob("*.png"):
        assert (tmp_path / "new" / path.relative_to(folder)).read_bytes() == path.read_bytes()

    again = platform.command("prefecture", "results", str(job), "--to", str(tmp_path / "new"))
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "is not an empty folder" in again.stderr

    with (folder / "a.png").open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    for words in ([], ["--to", str(tmp_path / "other")]):
        damaged = platform.command("prefecture", "results", str(job), *words)
        assert (damaged.returncode, damaged.stderr.count("\n")) == (1, 1)
        assert "a.png is not the file that was published" in damaged.stderr


def test_a_result_is_found_by_the_disk_alone(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/normal", {"upper_bound": 10}, "kept")
    process_platform.completed(job, "kept")
    process_platform.rest("DELETE", f"/flow_runs/{job}")
    shown = process_platform.command("prefecture", "results", str(job))
    assert shown.returncode == 0, shown.stderr
    assert "primes.parquet" in shown.stdout


@pytest.mark.thorough
def test_asking_for_what_is_not_there(process_platform: Platform) -> None:
    unknown = process_platform.command("prefecture", "results", str(uuid4()))
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "is known here" in unknown.stderr
    wrong = process_platform.command("prefecture", "results", "holiday")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "'holiday' is not a job id" in wrong.stderr
    job = process_platform.submit_job(
        "compress-images/normal", {"source": "nothing", "ratio": 0.5}, "failed"
    )
    process_platform.ended(job)
    failed = process_platform.command("prefecture", "results", str(job))
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert f"job {job} has no result: it is Failed: source 'nothing'" in failed.stderr


def test_commands_without_a_server_say_how_to_start_one(
    process_platform: Platform, tmp_path: Path
) -> None:
    environment = process_platform.environment
    lonely = Platform("process", tmp_path, free_port(), process_platform.process, environment)
    done = lonely.command("prefecture", "status")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no Prefect server answers" in done.stderr
