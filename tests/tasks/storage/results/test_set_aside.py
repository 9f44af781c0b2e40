"""What a job that failed has left to read: beside the place of its result, and no result."""

from pathlib import Path
from uuid import uuid4

import pytest

from tasks.contracts import S3Address
from tasks.errors import InvalidPayload
from tasks.storage.results.local import LocalRoot
from tasks.storage.results.s3 import S3Root
from tests.support.storage import client_of, moto_server
from tests.tasks.storage.results.attempts import CONTENT, fill


def test_on_a_disk(tmp_path: Path) -> None:
    root, job = LocalRoot(tmp_path / "results"), uuid4()
    places: list[Path] = []
    for _ in range(2):  # an attempt that was put back in its queue fails again
        with root.open_stage("trips/2026", job, uuid4()) as stage:
            fill(stage.scratch / "failed")
            places.append(Path(stage.set_aside(stage.scratch / "failed")))
    assert places[0] == tmp_path / "results" / "trips" / "2026" / f"{job}.failed"
    assert places[1].name.startswith(f"{job}.failed.")
    for place in places:
        found = {p.relative_to(place).as_posix(): p for p in place.rglob("*") if p.is_file()}
        assert {name: path.read_bytes() for name, path in found.items()} == CONTENT
    assert not root.is_published("trips/2026", job)
    assert root.search(job) is None


def test_not_out_of_the_root(tmp_path: Path) -> None:
    root = LocalRoot(tmp_path / "results")
    with root.open_stage("trips", uuid4(), uuid4()) as stage:
        (tmp_path / "results" / "trips").symlink_to(tmp_path)
        (stage.scratch / "failed").mkdir()
        with pytest.raises(InvalidPayload, match="leads out of the results root"):
            stage.set_aside(stage.scratch / "failed")


def test_in_s3(tmp_path: Path) -> None:
    with moto_server() as address:
        client = client_of(address)
        client.create_bucket(Bucket="results")
        root = S3Root(S3Address("results", "team"), tmp_path / "scratch", lambda: client)
        job = uuid4()
        with root.open_stage("holiday", job, uuid4()) as stage:
            fill(stage.scratch / "failed")
            place = stage.set_aside(stage.scratch / "failed")
        assert place == f"s3://results/team/holiday/{job}.failed/"
        listed = client.list_objects_v2(Bucket="results").get("Contents", [])
        keys = {item.get("Key", ""): item.get("Size") for item in listed}
        prefix = f"team/holiday/{job}.failed/"
        assert keys == {f"{prefix}{name}": len(data) for name, data in CONTENT.items()}
        assert not root.is_published("holiday", job)
        client.close()
