"""What is old and published by one task is removed from one directory, and nothing else is."""

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.contracts import Manifest, S3Address
from tasks.storage.results.interface import ResultsRoot
from tasks.storage.results.local import LocalRoot
from tasks.storage.results.s3 import S3Root
from tests.support.storage import client_of, moto_server
from tests.tasks.storage.results.attempts import MOMENT, fill, left_in_staging

LATER = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture(params=["disk", "S3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[ResultsRoot]:
    if request.param == "disk":
        yield LocalRoot(tmp_path)
        return
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket="results")
        yield S3Root(S3Address("results", "team"), tmp_path, lambda: client)
        client.close()


def publish(
    root: ResultsRoot, task: str, directory: str = "reports", published: datetime = MOMENT
) -> UUID:
    job = uuid4()
    with root.open_stage(directory, job, job) as stage:
        fill(stage.files)
        manifest = Manifest(
            job=job,
            task=task,
            attempt=1,
            flow_run=job,
            parameters={},
            **dict.fromkeys(("submitted", "started"), MOMENT),
            published=published,
            summary={},
            files=stage.store(),
        )
        stage.publish(manifest)
    return job


def test_nothing_else_is_removed(root: ResultsRoot, tmp_path: Path) -> None:
    old = [publish(root, "report-usage") for _ in range(2)]
    users = publish(root, "find-primes")
    fresh = publish(root, "report-usage", published=LATER)
    elsewhere = publish(root, "report-usage", "holiday")
    stays = {"reports": [users, fresh], "holiday": [elsewhere]}
    assert root.remove_old("reports", "report-usage", datetime.now(UTC) - timedelta(days=1)) == 0
    assert all(root.is_published("reports", job) for job in old), "written just now, it may say"
    assert root.remove_old("reports", "report-usage", LATER) == 2
    assert not any(root.is_published("reports", job) for job in old)
    for directory, jobs in stays.items():
        for job in jobs:
            found = root.find(directory, job)
            assert found is not None
            found.verify()
    assert left_in_staging(tmp_path) == []
    assert root.remove_old("reports", "report-usage", LATER) == 0


def test_the_link_to_the_newest_is_none_of_them(tmp_path: Path) -> None:
    root = LocalRoot(tmp_path)
    job = publish(root, "report-usage")
    (tmp_path / "reports" / "latest").symlink_to(str(job))
    (tmp_path / "reports" / "broken").mkdir()
    (tmp_path / "reports" / "broken" / "manifest.json").write_text("{}")
    assert root.remove_old("reports", "report-usage", LATER) == 1
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["broken", "latest"]
    assert LocalRoot(tmp_path / "none").remove_old("reports", "report-usage", LATER) == 0
