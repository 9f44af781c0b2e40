"""Colour, depth and transparency: right in every format, or the report says what went."""

import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from tasks.contracts import ImageFormat
from tests.tasks.images.drawings import distance, photo, pixels_of, save, squeeze, turn_into
from tests.tasks.images.tiffs import ramp, tiff

PIXELS = np.asarray(photo(64, 48))


def grey_profile(gamma: float) -> bytes:
    """An ICC profile of grey: a dot gain curve is one like it."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    text = b"desc" + bytes(4) + struct.pack(">I", 5) + b"grey\0" + bytes(79)
    white = struct.pack(">iii", 63190, 65536, 54061)
    table, content = struct.pack(">I", 3), b""
    for name, held in ((b"desc", text), (b"wtpt", b"XYZ " + bytes(4) + white), (b"kTRC", curve)):
        padded = held + bytes(-len(held) % 4)
        table += name + struct.pack(">II", 168 + len(content), len(padded))
        content += padded
    head = struct.pack(">IxxxxI", 168 + len(content), 0x02400000) + b"prtrGRAYXYZ " + bytes(12)
    return (head + b"acsp" + bytes(28) + white).ljust(128, b"\0") + table + content


@pytest.mark.parametrize("mode", ["L", "LA"])
@pytest.mark.parametrize("format", ["webp", "avif", "png", "tiff"])
def test_profile_of_grey_is_kept_or_applied(
    tmp_path: Path, format: ImageFormat, mode: Literal["L", "LA"]
) -> None:
    profile = grey_profile(1.0)
    grey = Image.new(mode, (64, 48), 128 if mode == "L" else (128, 255))
    report, target = turn_into(save(tmp_path / "a.png", grey, icc_profile=profile), format)
    assert (report.outcome, report.left_out) == ("done", None)
    with Image.open(target) as image:
        if image.info.get("icc_profile") == profile:
            assert format in ("png", "tiff")
            assert pixels_of(image)[20, 20, 0] == 128
        else:  # a linear half is 188 in sRGB
            assert abs(pixels_of(image)[20, 20, 0] - 188) < 3


def test_profile_of_grey_stands_in_no_palette(tmp_path: Path) -> None:
    grey = photo(64, 48).convert("L")
    source = save(tmp_path / "a.png", grey, icc_profile=grey_profile(2.2))
    report, target = squeeze(source, 0.4)
    assert report.outcome == "done"
    with Image.open(target) as image:
        assert distance(image, grey) < 64
        assert image.mode in ("1", "L")
        assert image.info["icc_profile"] == grey_profile(2.2)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif"])
@pytest.mark.parametrize("dtype", ["f4", "f2"])
def test_floats_of_0_to_1_are_black_to_white(
    tmp_path: Path, format: ImageFormat, dtype: str
) -> None:
    for name, samples, photometric in (
        ("grey", ramp(dtype, 0, 1), 1),
        ("colour", (PIXELS / 255).astype(dtype), 2),
    ):
        source = tiff(tmp_path / f"{name}.tif", samples, photometric)
        report, target = turn_into(source, format)
        assert report.outcome == "reduced"
        assert "the depth (floats became" in (report.left_out or [""])[0]
        expected = (samples.astype(np.float64) * 255).reshape(48, 64, -1)
        with Image.open(target) as image:
            deep = image.mode.startswith("I")
            shown = np.asarray(image) / 257 if deep else pixels_of(image)
        assert np.abs(shown.reshape(48, 64, -1) - expected).mean() < 6


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        (ramp("f4", -1000, 3000), "float samples from -1000 to 3000 have no known black and white"),
        (ramp("f4", 0, 255), "float samples from 0 to 255"),
        (np.full((48, 64), np.nan, np.float32), "hold NaN or an infinity"),
        (ramp("i2", -32768, 32767), "signed 16-bit samples have no known black and white"),
        (ramp("i1", -128, 127), "signed 8-bit samples"),
        (ramp("u4", 0, 2**32 - 1), "32-bit samples"),
        (ramp("i4", 0, 2**31 - 1), "signed 32-bit samples"),
    ],
)
def test_samples_without_a_known_range_are_refused_and_kept_in_tiff(
    tmp_path: Path, samples: Any, reason: str
) -> None:
    source = tiff(tmp_path / "a.tif", samples, 1)
    report, _ = turn_into(source, "png")
    assert report.outcome == "broken"
    assert reason in (report.reason or "")
    report, _ = turn_into(source, "tiff")
    assert (report.outcome, report.left_out) == ("done", None)


@pytest.mark.parametrize(
    ("samples", "photometric", "reason"),
    [
        (ramp("f8", 0, 1), 1, "TIFF with 64-bit float samples is not supported"),
        (PIXELS, 9, "TIFF with ICC LAB colours is not supported"),
        (PIXELS, 10, "TIFF with ITU LAB colours is not supported"),
        (PIXELS, 6, "TIFF with YCbCr colours without JPEG compression is not supported"),
        (ramp("u1", 0, 255), 4, "TIFF with a mask is not supported"),
        (ramp("f4", 0, 1), 32844, "TIFF with LogL colours is not supported"),
        (ramp("u8", 0, 2**60), 1, "TIFF with 64-bit samples is not supported"),
    ],
)
def test_whole_tiff_that_is_not_read_is_not_called_damaged(
    tmp_path: Path, samples: Any, photometric: int, reason: str
) -> None:
    source = tiff(tmp_path / "a.tif", samples, photometric)
    for report, _ in (squeeze(source, 0.5), turn_into(source, "png")):
        assert (report.outcome, report.reason) == ("broken", reason)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_planes_are_read_as_pixels(tmp_path: Path, dtype: str) -> None:
    samples = (PIXELS.astype(dtype) * (257 if dtype == "u2" else 1)).astype(dtype)
    source = tiff(tmp_path / "a.tif", samples, 2, planar=True)
    _, target = turn_into(source, "jpeg")
    with Image.open(target) as image:
        assert distance(image, photo(64, 48)) < 6


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_lab_has_the_colours_of_srgb(tmp_path: Path, dtype: str) -> None:
    scale = 1 if dtype == "u1" else 256
    lab = np.empty((48, 64, 3), "i4")
    lab[:] = (round(60 / 100 * 255) * scale, 40 * scale, -30 * scale)  # L*a*b* of 60, 40, -30
    source = tiff(tmp_path / "a.tif", lab.astype(f"i{scale.bit_length() // 9 + 1}").view(dtype), 8)
    report, target = turn_into(source, "png")
    assert report.outcome == "reduced"
    assert "the colour space (LAB" in (report.left_out or [""])[0]
    with Image.open(target) as image:
        shown = np.asarray(image.convert("RGB"))[20, 20]
    assert np.abs(shown - np.array((189, 115, 199))).max() < 9
    report, target = squeeze(source, 0.5)
    if report.outcome == "missed":  # of 8 bits: not written, but kept
        assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize(("format", "bits"), [("jpeg", 8), ("webp", 8), ("avif", 12)])
def test_depth_that_a_format_has_not_is_named(
    tmp_path: Path, format: ImageFormat, bits: int
) -> None:
    source = save(tmp_path / "a.png", Image.fromarray(ramp("u2", 0, 65535)))
    report, _ = turn_into(source, format)
    assert report.outcome == "reduced"
    assert report.left_out == [f"the depth (16 bits became {bits})"]


def test_depth_given_up_for_the_ratio_is_named(tmp_path: Path) -> None:
    deep = np.random.default_rng(5).integers(0, 65536, (48, 64)).astype(np.uint16)
    source = save(tmp_path / "a.png", Image.fromarray(deep))
    report, _ = squeeze(source, 0.6)
    assert report.outcome == "reduced"
    assert report.left_out == ["the depth (16 bits became 8)"]


def test_opaque_picture_loses_nothing_in_jpeg(tmp_path: Path) -> None:
    report, _ = turn_into(save(tmp_path / "a.png", photo(64, 48).convert("RGBA")), "jpeg")
    assert (report.outcome, report.left_out) == ("done", None)


def test_transparency_lost_in_jpeg_is_named(tmp_path: Path) -> None:
    picture = photo(64, 48).convert("RGBA")
    picture.putalpha(254)
    report, _ = turn_into(save(tmp_path / "a.png", picture), "jpeg")
    assert report.left_out == ["the transparency (shown on white)"]


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_further_channels_are_named(tmp_path: Path, format: ImageFormat) -> None:
    spots = np.dstack([PIXELS, PIXELS[..., :2]])
    source = tiff(tmp_path / "a.tif", spots, 2, (338, 3, [0, 0]))
    report, target = turn_into(source, format)
    assert report.left_out == ["2 further channels (spot colours or masks)"]
    with Image.open(target) as image:
        assert image.mode == "RGB"
        assert distance(image, photo(64, 48)) < 8


def test_premultiplied_colours_are_not_darkened(tmp_path: Path) -> None:
    half = np.full((48, 64, 1), 128, np.uint8)
    source = tiff(tmp_path / "a.tif", np.dstack([PIXELS // 2, half]), 2, (338, 3, [1]))
    _, target = turn_into(source, "png")
    with Image.open(target) as image:
        assert distance(image, photo(64, 48)) < 2


@pytest.mark.parametrize("colours", [2, 3, 16, 60, 200, 256])
def test_indexed_picture_stays_indexed_and_exact(tmp_path: Path, colours: int) -> None:
    rng = np.random.default_rng(3)
    table = rng.integers(0, 256, (colours, 4)).astype(np.uint8)
    picture = Image.fromarray(np.repeat(rng.integers(0, colours, (120, 40)), 4, 1).astype(np.uint8))
    picture.putpalette(table[:, :3].tobytes())
    source = save(
        tmp_path / "a.png", picture, transparency=table[:, 3].tobytes(), compress_level=0, bits=8
    )
    with Image.open(source) as image:
        before = np.asarray(image.convert("RGBA"))
    report, target = squeeze(source, 0.999)
    assert report.outcome == "done"
    with Image.open(target) as image:
        assert image.mode == "P"
        assert np.array_equal(np.asarray(image.convert("RGBA")), before)


def test_screenshot_of_few_colours_is_exact(tmp_path: Path) -> None:
    screen = photo(160, 120).quantize(40).convert("RGB")
    exif = Image.Exif()
    exif[0x010F] = "Leica"
    source = save(tmp_path / "a.png", screen, exif=exif, dpi=(144, 144), compress_level=1)
    report, target = squeeze(source, 0.8)
    assert report.outcome == "done"
    with Image.open(target) as image:
        assert image.mode == "P"
        assert image.getexif()[0x010F] == "Leica"
        assert round(image.info["dpi"][0]) == 144
        assert distance(image, screen) == 0


@pytest.mark.parametrize("colours", [2, 17, 255])
def test_gif_is_first_tried_exact(tmp_path: Path, colours: int) -> None:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(np.repeat(rng.integers(0, colours, (60, 160)).astype(np.uint8), 2, 0))
    picture.putpalette(rng.integers(0, 256, colours * 3).astype(np.uint8).tobytes())
    source = save(tmp_path / "a.gif", picture, comment=b"x" * 9000)
    report, target = squeeze(source, 0.999)
    assert report.outcome == "done"
    with Image.open(target) as image, Image.open(source) as original:
        assert distance(image, original) == 0


def test_transparency_that_a_palette_cannot_hold_is_named(tmp_path: Path) -> None:
    indexed = photo(320, 240).quantize(64)
    source = save(tmp_path / "a.png", indexed, transparency=bytes([*[0] * 8, *[255] * 56]))
    report, target = squeeze(source, 0.9)
    assert (report.outcome, report.left_out) == ("done", None)
    assert turned(source, target) <= 32
    report, target = squeeze(source, 0.1)
    assert turned(source, target) > 32
    assert report.left_out == [f"the exact transparency (off by {turned(source, target)} of 255)"]


def turned(one: Path, other: Path) -> int:
    """The largest change of alpha."""
    with Image.open(one) as before, Image.open(other) as after:
        alphas = [
            np.asarray(image.convert("RGBA"))[..., 3].astype(int) for image in (before, after)
        ]
    return int(np.abs(alphas[0] - alphas[1]).max())
