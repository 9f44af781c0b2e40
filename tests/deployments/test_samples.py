"""`prefecture samples`: photographs for a first job."""

import os
import subprocess
from pathlib import Path

from tests.support.platform import BIN


def samples(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "prefecture"), "samples", *words],
        env=os.environ | {"PREFECTURE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_samples_are_made_once(tmp_path: Path) -> None:
    made = samples(tmp_path)
    assert made.returncode == 0, made.stderr
    photos = tmp_path / "inputs" / "photos"
    assert made.stdout.split() == ["6", "photographs", "in", str(photos)]
    files = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    assert len(files) == 6
    again = samples(tmp_path)
    assert again.returncode == 0, again.stderr
    assert "is there already" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in photos.iterdir()} == files


def test_samples_stay_in_the_inputs_root(tmp_path: Path) -> None:
    refused = samples(tmp_path, "../elsewhere")
    assert refused.returncode == 1
    assert "name a folder in" in refused.stderr
    assert list(tmp_path.iterdir()) == []
