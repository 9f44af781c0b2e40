"""Pictures made smaller and converted: real files, judged by another library than the one used."""

import io
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from tasks.contracts import ImageFormat
from tasks.images import vips
from tasks.images.transform import ImageReport, before_and_after
from tests.tasks.images.drawings import (
    ORIENTATION,
    PILLOW,
    SAVE,
    SRGB,
    distance,
    photo,
    pixels_of,
    save,
    squeeze,
    turn_into,
)


@pytest.mark.parametrize("suffix", SAVE)
@pytest.mark.parametrize("ratio", [0.7, 0.3])
def test_the_format_is_kept_and_the_bound_holds(tmp_path: Path, suffix: str, ratio: float) -> None:
    source = save(tmp_path / f"a.{suffix}")
    report, target = squeeze(source, ratio)
    assert (report.outcome, report.reason, report.output) == ("done", None, target.name)
    assert report.source == f"trip/a.{suffix}"
    assert report.bytes_in == source.stat().st_size
    assert report.bytes_out is not None
    assert report.bytes_out == target.stat().st_size <= ratio * report.bytes_in
    assert report.ratio == report.bytes_out / report.bytes_in
    if suffix != "tif":  # lossless where that fits
        assert (report.quality is None) == (suffix in ("png", "gif"))
    with Image.open(target) as image, Image.open(source) as original:
        assert image.format == PILLOW[suffix]
        assert distance(image, original) < 12
    assert list(target.parent.iterdir()) == [target]
    assert ImageReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize("suffix", SAVE)
def test_ratio_1_keeps_the_bytes(tmp_path: Path, suffix: str) -> None:
    source = save(tmp_path / f"a.{suffix}")
    report, target = squeeze(source, 1.0)
    assert (report.outcome, report.ratio, report.quality) == ("done", 1.0, None)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("suffix", SAVE)
def test_what_cannot_be_reached_is_missed_at_the_smallest_size(tmp_path: Path, suffix: str) -> None:
    report, target = squeeze(save(tmp_path / f"a.{suffix}"), 0.0001)
    assert report.outcome == "missed"
    assert report.reason is not None
    assert report.reason.startswith("best reached is 0.")
    assert report.bytes_out == target.stat().st_size < report.bytes_in / 4
    with Image.open(target) as image:
        image.load()


@pytest.mark.parametrize("format", ["WEBP", "PNG", "GIF", "JPEG", "TIFF"])
def test_a_bound_of_less_than_a_byte_is_missed(tmp_path: Path, format: str) -> None:
    """As of a picture of 44 bytes at a ratio of 0.02."""
    source = tmp_path / f"tiny.{format.lower()}"
    Image.new("RGB", (1, 1)).save(source, format)
    report, target = squeeze(source, 0.5 / source.stat().st_size)
    assert report.outcome == "missed", report.reason
    assert report.bytes_out == target.stat().st_size <= source.stat().st_size


def test_the_original_is_kept_where_every_encoding_is_larger(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", Image.new("1", (1, 1)), optimize=True)
    report, target = squeeze(source, 0.5)
    assert (report.outcome, report.ratio, report.quality) == ("missed", 1.0, None)
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("ratio", [0.5, 0.2])
def test_a_compressed_picture_is_the_same_way_up(tmp_path: Path, suffix: str, ratio: float) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source = save(tmp_path / f"a.{suffix}", exif=exif)
    _, target = squeeze(source, ratio)
    with Image.open(target) as image, Image.open(source) as original:
        assert image.getexif()[ORIENTATION] == 6
        upright = ImageOps.exif_transpose(original)
        assert upright.size == (240, 320)
        assert distance(ImageOps.exif_transpose(image), upright) < 20


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("streamed", [False, True])
def test_a_converted_picture_is_upright(
    tmp_path: Path, orientation: int, streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if streamed:
        monkeypatch.setattr(vips, "DECODED_IN_MEMORY", 1000)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    source = save(tmp_path / "a.jpg", exif=exif, icc_profile=SRGB)
    for format in get_args(ImageFormat):
        report, target = turn_into(source, format)
        assert report.outcome == "done"
        with Image.open(target) as image, Image.open(source) as original:
            assert image.getexif().get(ORIENTATION, 1) == 1
            assert image.info["icc_profile"] == SRGB
            assert distance(image, ImageOps.exif_transpose(original)) < 6


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif", "tif"])
def test_the_profile_is_kept_however_small_the_rest_becomes(tmp_path: Path, suffix: str) -> None:
    _, target = squeeze(save(tmp_path / f"a.{suffix}", icc_profile=SRGB), 0.3)
    with Image.open(target) as image:
        assert image.info["icc_profile"] == SRGB


@pytest.mark.parametrize("ratio", [0.9, 0.25])
def test_metadata_gives_way_to_the_bound(tmp_path: Path, ratio: float) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010E] = "x" * 60_000  # ImageDescription
    source = save(tmp_path / "a.jpg", exif=exif, icc_profile=SRGB)
    report, target = squeeze(source, ratio)
    assert report.outcome == "done"
    assert report.quality is not None
    assert report.quality > 50
    with Image.open(target) as image:
        assert image.getexif()[ORIENTATION] == 6
        assert image.info["icc_profile"] == SRGB
        assert 0x010E not in image.getexif()


def test_metadata_that_fits_is_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "The harbour"
    exif[0x010F] = "Leica"
    _, target = squeeze(save(tmp_path / "a.jpg", exif=exif), 0.5)
    with Image.open(target) as image:
        assert (image.getexif()[0x010E], image.getexif()[0x010F]) == ("The harbour", "Leica")


@pytest.mark.parametrize("format", get_args(ImageFormat))
def test_cmyk_becomes_rgb(tmp_path: Path, format: ImageFormat) -> None:
    source = save(tmp_path / "a.jpg", photo().convert("CMYK"))
    _, target = turn_into(source, format)
    with Image.open(target) as image:
        assert image.mode == "RGB"
        corner = pixels_of(image)[20, 20]
        assert corner[0] > 180
        assert corner[1:].max() < 90


@pytest.mark.parametrize("format", get_args(ImageFormat))
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept_or_white(
    tmp_path: Path, format: ImageFormat, mode: Literal["RGBA", "LA"]
) -> None:
    picture = photo().convert(mode)
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    source = save(tmp_path / "a.png", picture)
    _, target = turn_into(source, format)
    white = Image.new("RGBA", picture.size, "white")
    with Image.open(target) as image:
        assert ("A" in image.mode) == (format != "jpeg")
        shown = Image.alpha_composite(white, image.convert("RGBA"))
    assert distance(shown, Image.alpha_composite(white, picture.convert("RGBA"))) < 4


@pytest.mark.parametrize("format", get_args(ImageFormat))
def test_16_bit_is_kept_where_the_format_can(tmp_path: Path, format: ImageFormat) -> None:
    deep = np.linspace(0, 65535, 320 * 240).reshape(240, 320).astype(np.uint16)
    source = save(tmp_path / "a.png", Image.fromarray(deep))
    _, target = turn_into(source, format)
    with Image.open(target) as image:
        if format in ("png", "tiff"):
            assert np.array_equal(np.asarray(image), deep)
        else:
            assert np.abs(pixels_of(image)[..., 0] - deep / 257).mean() < 3


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_an_animation_keeps_its_frames(tmp_path: Path, suffix: str) -> None:
    frames = [photo(shift=30 * n) for n in range(5)]
    options = {"save_all": True, "append_images": frames[1:], "duration": 70, "loop": 3}
    source = save(tmp_path / f"a.{suffix}", frames[0], **options)
    for report, target in (squeeze(source, 0.5), turn_into(source, "webp")):
        assert report.outcome == "done"
        with Image.open(target) as image:
            for number in range(5):
                image.seek(number)
                image.load()
                assert image.info["duration"] == 70
            assert distance(image, frames[4]) < 12
    _, still = turn_into(source, "jpeg")
    with Image.open(still) as image:
        assert distance(image, frames[0]) < 12


def test_a_tiff_keeps_its_pages(tmp_path: Path) -> None:
    pages = [photo(shift=30 * n) for n in range(3)]
    source = save(tmp_path / "a.tif", pages[0], save_all=True, append_images=pages[1:])
    for _, target in (squeeze(source, 0.3), turn_into(source, "tiff")):
        with Image.open(target) as image:
            assert len(list(ImageSequence.Iterator(image))) == 3
            image.seek(2)
            assert distance(image, pages[2]) < 6


def test_before_and_after_is_a_small_upright_pair(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    source = save(tmp_path / "a.jpg", photo(1200, 900), exif=exif)
    _, target = squeeze(source, 0.2)
    pair = before_and_after(source, target)
    assert pair is not None
    assert len(pair) <= 30_000
    with Image.open(io.BytesIO(pair)) as image:
        assert image.size == (240 + 8 + 240, 320)
    (tmp_path / "text").write_text("Dear Sir")
    assert before_and_after(source, tmp_path / "text") is None
    assert before_and_after(tmp_path / "gone", target) is None
