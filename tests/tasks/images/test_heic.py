"""HEIC as phones write it: read upright, in its colours and depth, within the limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif  # pyright: ignore[reportMissingTypeStubs]
import pytest
from PIL import Image

from tasks.contracts import ImageFormat
from tasks.images import vips
from tests.tasks.images.drawings import (
    ORIENTATION,
    SRGB,
    distance,
    photo,
    pixels_of,
    squeeze,
    turn_into,
)

_heif: Any = pillow_heif  # untyped


def heic(path: Path, *pictures: Image.Image, **options: Any) -> Path:
    file = _heif.from_pillow(pictures[0] if pictures else photo(97, 63))
    for picture in pictures[1:]:
        file.add_from_pillow(picture)
    file.save(path, quality=95, **options)
    return path


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif", "tiff"])
def test_photo_is_converted_with_profile_and_metadata(tmp_path: Path, format: ImageFormat) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Leica"
    picture = photo(97, 63)
    picture.info["icc_profile"] = SRGB
    report, target = turn_into(heic(tmp_path / "a.heic", picture, exif=exif.tobytes()), format)
    assert (report.outcome, report.reason) == ("done", None)
    with Image.open(target) as image:
        assert distance(image, picture) < 8
        assert image.info["icc_profile"] == SRGB
        if format == "tiff":
            assert report.left_out == ["EXIF metadata"]
        else:
            assert image.getexif()[0x010F] == "Leica"


def test_photo_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    _, target = turn_into(heic(tmp_path / "a.heic", photo(96, 64), exif=exif.tobytes()), "jpeg")
    with Image.open(target) as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
        assert distance(image, photo(96, 64).transpose(Image.Transpose.ROTATE_270)) < 8


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparency_are_read(tmp_path: Path, mode: Any) -> None:
    picture = photo(97, 63).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    _, target = turn_into(heic(tmp_path / "a.heic", picture), "png")
    with Image.open(target) as image:
        assert image.mode == mode
        difference = np.asarray(image, float) - np.asarray(picture, float)
        assert np.abs(difference).mean() < 4


def test_10_bits_are_kept_where_the_format_can(tmp_path: Path) -> None:
    deep = np.full((48, 64, 3), 65535, np.uint16)
    source = tmp_path / "a.heic"
    _heif.from_bytes(mode="RGB;16", size=(64, 48), data=deep.tobytes()).save(source, quality=100)
    report, target = turn_into(source, "png")
    assert (report.outcome, report.left_out) == ("done", None)
    assert vips.open_picture(target).image().avg() == 65535
    report, target = turn_into(source, "jpeg")
    assert report.left_out == ["the depth (10 bits became 8)"]
    with Image.open(target) as image:
        assert pixels_of(image).min() > 253


def test_further_pictures_are_named(tmp_path: Path) -> None:
    source = heic(tmp_path / "a.heic", photo(97, 63), photo(97, 63, shift=9))
    report, _ = turn_into(source, "webp")
    assert report.left_out == ["picture 2 of 2"]


def test_photo_is_kept_where_it_cannot_be_written_smaller(tmp_path: Path) -> None:
    source = heic(tmp_path / "a.heic")
    report, target = squeeze(source, 0.5)
    assert report.outcome == "missed"
    assert report.reason is not None
    assert report.reason.startswith("HEIC is read and not written: the original was kept")
    assert target.read_bytes() == source.read_bytes()
    assert squeeze(source, 1.0)[0].outcome == "done"


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_truncated_photo_is_broken(tmp_path: Path, share: float) -> None:
    source = heic(tmp_path / "a.heic")
    content = source.read_bytes()
    source.write_bytes(content[: int(len(content) * share)])
    for report, _ in (squeeze(source, 1.0), turn_into(source, "jpeg")):
        assert (report.outcome, report.reason) == ("broken", "truncated or damaged HEIC")


def test_photo_of_too_many_pixels_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vips, "DECODED_BY_WHOLE_CODER", 1000)
    report, _ = turn_into(heic(tmp_path / "a.heic"), "jpeg")
    assert report.reason == "97 x 63 pixels are too many for HEIC"
