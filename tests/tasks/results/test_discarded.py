"""An attempt that was taken for dead, and is not: its result is whole, or not there."""

import threading
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tasks.errors import StageDiscarded
from tasks.results import local
from tests.support.session.tiers import thorough
from tests.tasks.results.attempts import MOMENT, fill, publish

MANY = {f"{number // 100}/{number}.bin": b"x" for number in range(1500)}


def test_what_is_removed_before_it_publishes_is_not_published(tmp_path: Path) -> None:
    job, run = uuid4(), uuid4()
    with (
        pytest.raises(StageDiscarded, match="another does the job"),
        local.open_stage(tmp_path, "dir", job, run) as stage,
    ):
        fill(stage.files)
        files = local.inventory(stage.files)
        local.discard_stages(tmp_path, job, run)
        local.publish(stage, manifest_of(job, run, files))
    assert not (tmp_path / "dir").exists() or not list((tmp_path / "dir").iterdir())
    assert publish(tmp_path, "dir", job, 2).attempt == 2


@pytest.mark.parametrize("trial", [0, 1, *map(thorough, range(2, 8))])
def test_removed_while_it_publishes(tmp_path: Path, trial: int) -> None:
    job, run = uuid4(), uuid4()
    start = threading.Event()

    def discard() -> None:
        start.wait(240)
        local.discard_stages(tmp_path, job, run)

    other = threading.Thread(target=discard)
    other.start()
    try:
        with local.open_stage(tmp_path, "dir", job, run) as stage:
            fill(stage.files, MANY)
            files = local.inventory(stage.files)
            start.set()
            local.publish(stage, manifest_of(job, run, files))
    except StageDiscarded:
        assert not (tmp_path / "dir" / str(job)).exists()
    else:
        other.join(240)
        folder = tmp_path / "dir" / str(job)
        local.verify(folder, local.read_manifest(folder))
    finally:
        start.set()
        other.join(240)
    assert local.staged(tmp_path) == set()


def test_a_strange_name_among_the_stages_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.b.c.d", "x.y.z", f"{uuid4()}.no.id"):
        (tmp_path / local.STAGING / name).mkdir(parents=True)
    assert local.staged(tmp_path) == set()


def manifest_of(job: UUID, run: UUID, files: list[local.PublishedFile]) -> local.Manifest:
    return local.Manifest(
        job=job,
        task="test",
        attempt=1,
        flow_run=run,
        parameters={},
        **dict.fromkeys(("submitted", "started", "published"), MOMENT),
        summary={},
        files=files,
    )
