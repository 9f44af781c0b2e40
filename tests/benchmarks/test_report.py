"""The table of `make bench`: ratios the right way round, and misses that show."""

import json
from pathlib import Path

import pytest

from benchmarks.suite.report import FLOOR, OURS, Row, save, table
from benchmarks.suite.server import Times
from benchmarks.suite.starts import gaps

SECONDS = Row(
    "a", "submit to Running", "s",
    {OURS: [0.5, 0.4, 0.6], "stock": [4.0, 4.2, 3.8], FLOOR: [1.0, 1.2, 0.9]},
    target={"stock": 2.5, FLOOR: 1 / 1.25},
)  # fmt: skip
RATE = Row("g", "pictures", "MB/s", {OURS: [10.0], "other": [20.0]}, "more", {"other": 1.0})


def test_how_many_times_better() -> None:
    assert SECONDS.ratio("stock") == pytest.approx(8)
    assert SECONDS.ratio(FLOOR) == pytest.approx(2)
    assert RATE.ratio("other") == pytest.approx(0.5), "of what should be more, we have half"


def test_a_row_that_we_lose_stays_and_says_so() -> None:
    lines = table([SECONDS, RATE])
    assert len(lines) == 1 + 3 + 2
    assert [line for line in lines if line.endswith("missed")] == [lines[-1]]
    assert "0.4 to 0.6" in lines[1]


def test_every_figure_is_saved(tmp_path: Path) -> None:
    save(tmp_path / "new" / "bench.json", {"cpus": 2}, [SECONDS])
    saved = json.loads((tmp_path / "new" / "bench.json").read_text())
    assert saved["machine"] == {"cpus": 2}
    assert saved["rows"][0]["figures"][OURS] == [0.5, 0.4, 0.6]
    assert saved["rows"][0]["median"]["stock"] == 4.0
    assert saved["rows"][0]["ours_by"]["stock"] == pytest.approx(8)


def test_a_freed_slot_is_given_to_the_next_that_starts() -> None:
    times = [Times(0, 3.25, 5), Times(0, 1, 2), Times(0, 2.5, 3)]
    assert gaps(times) == [0.5, 0.25]
