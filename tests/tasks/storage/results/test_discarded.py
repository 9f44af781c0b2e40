"""An attempt that was taken for dead, and is not: its result is whole, or not there."""

import threading
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.errors import StageDiscarded
from tasks.storage.results import local_files
from tests.support.session.tiers import thorough
from tests.tasks.storage.results.attempts import claim, fill, publish

MANY = {f"{number // 100}/{number}.bin": b"x" for number in range(1500)}


def test_what_is_removed_before_it_publishes_is_not_published(tmp_path: Path) -> None:
    job, run = uuid4(), uuid4()
    with (
        pytest.raises(StageDiscarded, match="another attempt does the job"),
        local_files.open_stage(tmp_path, "dir", job, run) as stage,
    ):
        fill(stage.files)
        files = local_files.inventory(stage.files)
        local_files.discard_stages(tmp_path, job, run)
        local_files.publish(stage, claim(job, 1, files, run))
    assert not (tmp_path / "dir").exists() or not list((tmp_path / "dir").iterdir())
    assert publish(tmp_path, "dir", job, 2).attempt == 2


@pytest.mark.parametrize("trial", [0, 1, *map(thorough, range(2, 8))])
def test_removed_while_it_publishes(tmp_path: Path, trial: int) -> None:
    job, run = uuid4(), uuid4()
    start = threading.Event()

    def discard() -> None:
        start.wait(240)
        local_files.discard_stages(tmp_path, job, run)

    other = threading.Thread(target=discard)
    other.start()
    try:
        with local_files.open_stage(tmp_path, "dir", job, run) as stage:
            fill(stage.files, MANY)
            files = local_files.inventory(stage.files)
            start.set()
            local_files.publish(stage, claim(job, 1, files, run))
    except StageDiscarded:
        assert not (tmp_path / "dir" / str(job)).exists()
    else:
        other.join(240)
        folder = tmp_path / "dir" / str(job)
        local_files.verify(folder, local_files.read_manifest(folder))
    finally:
        start.set()
        other.join(240)
    assert local_files.staged(tmp_path) == set()


def test_a_strange_name_among_the_stages_is_left_alone(tmp_path: Path) -> None:
    for name in ("a.b.c.d", "x.y.z", f"{uuid4()}.no.id"):
        (tmp_path / local_files.STAGING / name).mkdir(parents=True)
    assert local_files.staged(tmp_path) == set()
