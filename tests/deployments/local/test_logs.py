"""The logs of what `up` runs, over many starts."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from deployments.local.logs import KEPT, cut, older, rotate


def test_each_start_has_a_log_of_its_own_and_the_older_ones_stay(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    rotate(log)
    for start in range(KEPT + 3):
        log.write_text(f"start {start}")
        rotate(log)
        assert not log.exists()
        assert older(log, 1).read_text() == f"start {start}"
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == [f"worker.log.{number}" for number in range(1, KEPT + 1)]
    assert older(log, KEPT).read_text() == "start 3"


def test_an_empty_log_pushes_none_out(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    for text in ("said", "", ""):
        log.write_text(text)
        rotate(log)
    assert older(log, 1).read_text() == "said"
    assert not older(log, 2).exists()


def test_a_log_is_cut_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        for text in (b"first", b"second"):
            writer.write(text)
            cut(log)
        writer.write(b"third")
    texts = [path.read_text() for path in (log, older(log, 1), older(log, 2))]
    assert texts == ["third", "second", "first"]


def test_a_full_disk_loses_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "worker.log"
    for text in ("first", "second"):
        log.write_text(text)
        rotate(log)
    log.write_text("third")

    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"th")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    for _ in range(KEPT + 1):
        with pytest.raises(OSError, match="No space"):
            cut(log)
    texts = [path.read_text() for path in (log, older(log, 1), older(log, 2))]
    assert texts == ["third", "second", "first"]
    assert len(list(tmp_path.iterdir())) == 3
