"""The search for the best encoding that fits."""

from pathlib import Path

import pytest
from PIL import Image

from tasks.images import encoders, vips
from tests.tasks.images.drawings import photo, save, squeeze


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_one_quality_more_would_not_fit_in_a_jpeg(tmp_path: Path, mode: str) -> None:
    source = save(tmp_path / "a.jpg", photo().convert(mode))
    report, target = squeeze(source, 0.4)
    assert report.outcome == "done"
    assert report.quality is not None
    with Image.open(target) as image:
        assert image.mode == mode
    picture = vips.open_picture(source)
    (stage,) = encoders.stages(picture, 10**9)
    sizes: list[int] = []
    for encoding in stage.encodings[report.quality - 1 : report.quality + 1]:
        with vips.encode(picture.image(), "jpeg", encoding.options, target) as file:
            sizes.append(file.seek(0, 2))
    assert sizes[0] <= 0.4 * report.bytes_in < sizes[1]


@pytest.mark.parametrize("budget", [0.5, 1, 17, 50.2, 99.9, 100, 1000])
def test_the_search_finds_the_highest_rung_that_fits(budget: float) -> None:
    calls: list[int] = []

    def measure(rung: int) -> int:
        calls.append(rung)
        return 1000 * (rung + 1)

    found = encoders.highest_fitting(measure, int(budget * 1000), 100)
    assert found == (None if budget < 1 else min(int(budget), 100) - 1)
    assert len(calls) == len(set(calls)) <= 13
