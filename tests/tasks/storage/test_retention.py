"""Results that are removed: gone at once, remembered, and never while somebody reads them."""

from collections.abc import Callable, Generator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.contracts import S3Address
from tasks.errors import ResultExpired
from tasks.storage.results.interface import ResultsRoot
from tasks.storage.results.local import LocalRoot
from tasks.storage.results.s3 import S3Root
from tasks.storage.retention.local import LocalRetention
from tasks.storage.retention.records import Retention
from tasks.storage.retention.s3 import S3Retention
from tests.support.storage import client_of, moto_server
from tests.tasks.storage.results.attempts import MOMENT, claim, fill, left_in_staging

Both = tuple[ResultsRoot, Callable[[], Retention]]


@pytest.fixture(params=["disk", "S3"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Both]:
    """A root, and what opens its results."""
    if request.param == "disk":
        yield LocalRoot(tmp_path), lambda: LocalRetention(tmp_path)
        return
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket="results")
        place = S3Address("results", "team")
        root = S3Root(place, tmp_path, lambda: client)
        yield root, lambda: S3Retention(place, lambda: client, linked=0)
        client.close()


def publish(root: ResultsRoot, directory: str = "trips/2026") -> UUID:
    job = uuid4()
    with root.open_stage(directory, job, job) as stage:
        fill(stage.files)
        asked = {"user": "anna", "expires": MOMENT + timedelta(days=1)}
        stage.publish(claim(job, 1, stage.store(), job).model_copy(update=asked))
    return job


def test_a_removed_result_is_gone_and_remembered(both: Both, tmp_path: Path) -> None:
    root, open_ = both
    stays, goes = publish(root), publish(root)
    retention = open_()
    found = {result.job: result for result in retention.results()}
    assert found.keys() == {stays, goes}
    assert {*retention.results()} == {*found.values()}, "from memory"
    result = found[goes]
    assert (result.user, result.place) == ("anna", f"trips/2026/{goes}")
    assert (result.bytes, result.expires) == (75_000, MOMENT + timedelta(days=1))
    assert retention.remove(result, "it was too old")
    assert not root.is_published("trips/2026", goes)
    assert root.find("trips/2026", goes) is root.search(goes) is None
    record = open_().removed(goes)
    assert record is not None
    assert "it was too old: run the job again" in str(record.error())
    assert open_().removed(stays) is None
    open_().finish()
    assert [result.job for result in open_().results()] == [stays]
    stayed = root.find("trips/2026", stays)
    assert stayed is not None
    stayed.verify()
    assert left_in_staging(tmp_path) == []


def test_files_in_s3_stay_for_as_long_as_links_are_good(tmp_path: Path) -> None:
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket="results")
        place = S3Address("results", "team")

        def files() -> int:
            listed = client.list_objects_v2(Bucket="results", Prefix="team/trips/")
            return listed["KeyCount"]

        job = publish(S3Root(place, tmp_path, lambda: client))
        patient = S3Retention(place, lambda: client)
        (result,) = patient.results()
        assert patient.remove(result, "old")
        patient.finish()
        assert files() == 3
        S3Retention(place, lambda: client, linked=0).finish()
        assert files() == 0
        assert patient.removed(job) is not None
        client.close()


def test_a_result_is_not_removed_while_somebody_reads_it(tmp_path: Path) -> None:
    root, retention = LocalRoot(tmp_path), LocalRetention(tmp_path)
    job = publish(root)
    found = root.find("trips/2026", job)
    assert found is not None
    (result,) = retention.results()
    with found.reading(), found.reading():
        assert not retention.remove(result, "old")
        found.verify()
    assert retention.removed(job) is None
    assert retention.remove(result, "old")
    assert not retention.remove(result, "old"), "it is gone"
    with pytest.raises(ResultExpired), found.reading():
        pass
