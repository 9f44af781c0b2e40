"""Find what a job has published."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deployments import Job, submit
from tasks.errors import CorruptResult, JobFailedError
from tests.support.platform import Platform


@pytest.fixture
def job(prefecture: Platform) -> Job:
    """A job that has completed."""
    assert prefecture.api
    return submit("find-primes", {"upper_bound": 100}, "primes").wait()


def test_files_are_in_a_folder_of_the_job(job: Job, prefecture: Platform) -> None:
    folder = Path(job.results().location)
    assert folder == prefecture.results / "primes" / str(job.id)
    assert {path.name for path in folder.iterdir()} == {"primes.parquet", "manifest.json"}


def test_manifest_says_what_was_asked_for(job: Job) -> None:
    manifest = job.results().manifest
    assert (manifest.task, manifest.attempt) == ("find-primes", 1)
    assert manifest.parameters["payload"] == {"upper_bound": 100}


def test_copy_of_a_result(job: Job, tmp_path: Path) -> None:
    job.results(to=tmp_path / "copy")
    assert pq.ParquetFile(tmp_path / "copy" / "primes.parquet").metadata.num_rows == 25


def test_damage_is_found(job: Job) -> None:
    file = Path(job.results().location) / "primes.parquet"
    file.chmod(0o600)
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(CorruptResult, match=r"primes\.parquet"):
        job.results()


def test_failure_publishes_nothing(prefecture: Platform) -> None:
    job = submit("average-files", {"source": "no-such-folder"}, "nothing")
    with pytest.raises(JobFailedError, match="no-such-folder"):
        job.wait()
    assert not (prefecture.results / "nothing" / str(job.id)).exists()
