"""Bounds on width and height, and metadata that is kept or stripped."""

import io
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from tasks.contracts import CompressImages, ConvertImages, ImageFormat
from tasks.images import vips
from tasks.images.transform import Box, compress, convert
from tests.tasks.images.drawings import ORIENTATION, SRGB, distance, photo, save

PLACE = 0x8825


def tagged(**more: Any) -> dict[str, Any]:
    """EXIF with a place and a maker."""
    exif = Image.Exif()
    exif[0x010F] = "Leica"
    exif[PLACE] = {1: "N", 2: (52.0, 31.0, 0.0)}
    return {"exif": exif, **more}


def test_payloads_keep_metadata_and_size_by_default() -> None:
    small = CompressImages.model_validate({"source": "a", "ratio": 0.5})
    assert (small.max_width, small.max_height, small.metadata) == (None, None, "keep")
    other = ConvertImages.model_validate(
        {"source": "a", "format": "webp", "max_width": 800, "metadata": "strip"}
    )
    assert (other.max_width, other.max_height, other.metadata) == (800, None, "strip")


@pytest.mark.parametrize("bound", [{"max_width": 0}, {"max_height": -1}, {"metadata": "some"}])
def test_payload_out_of_range_is_refused(bound: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bound))):
        CompressImages.model_validate({"source": "a", "ratio": 0.5, **bound})


@pytest.mark.parametrize(
    ("box", "size"),
    [
        (Box(100, None), (100, 75)),
        (Box(None, 60), (80, 60)),
        (Box(100, 60), (80, 60)),
        (Box(100, 1000), (100, 75)),
        (Box(1000, 1000), (320, 240)),
        (Box(1, 1), (1, 1)),
    ],
)
@pytest.mark.parametrize("in_memory", [1000, 10**9])
def test_picture_fits_its_box(
    tmp_path: Path, box: Box, size: tuple[int, int], in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vips, "DECODED_IN_MEMORY", in_memory)
    source = save(tmp_path / "a.jpg", icc_profile=SRGB)
    made = [tmp_path / "small.jpg", tmp_path / "other.png"]
    assert compress(source, "a", made[0], 1.0, box).outcome == "done"
    assert convert(source, "a", made[1], "png", box).outcome == "done"
    for target in made:
        with Image.open(target) as image:
            assert image.size == size
            assert image.info["icc_profile"] == SRGB
            if size[0] > 1:
                assert distance(image, photo().resize(size, Image.Resampling.LANCZOS)) < 8
    if size == (320, 240):
        assert made[0].read_bytes() == source.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_box_is_of_the_picture_as_shown(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # 240 across and 320 down
    source = save(tmp_path / f"a.{suffix}", exif=exif)
    target = tmp_path / f"b.{suffix}"
    compress(source, "a", target, 0.9, Box(120, None))
    made = vips.open_picture(target).header  # Pillow would turn a TIFF by itself
    assert (made.width, made.height, made.get("orientation")) == (160, 120, 6)
    convert(source, "a", target, "jpeg", Box(120, None))
    with Image.open(target) as image:
        assert image.size == (120, 160)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animation_is_shrunk_frame_by_frame(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [photo(shift=30 * n) for n in range(3)]
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 70}
    source = save(tmp_path / f"a.{suffix}", frames[0], **several)
    for in_memory in (10**9, 1000):
        monkeypatch.setattr(vips, "DECODED_IN_MEMORY", in_memory)
        made = [tmp_path / f"b.{suffix}", tmp_path / "c.webp"]
        compress(source, "a", made[0], 0.9, Box(101, None))
        convert(source, "a", made[1], "webp", Box(101, None))
        for target in made:
            with Image.open(target) as image:
                assert (getattr(image, "n_frames", 1), image.size) == (3, (101, 76))
                image.seek(2)
                image.load()
                assert image.info["duration"] == 70
                assert distance(image, frames[2].resize((101, 76))) < 20


def test_transparent_colours_do_not_run_out(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (320, 240), (255, 0, 0, 0))
    picture.paste((0, 0, 255, 255), (100, 50, 220, 190))
    convert(save(tmp_path / "a.png", picture), "a", tmp_path / "b.png", "png", Box(31, None))
    with Image.open(tmp_path / "b.png") as image:
        pixels = np.asarray(image.convert("RGBA"))
    assert pixels[pixels[..., 3] > 8][:, 0].max() < 20


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
def test_stripped_picture_tells_no_place(tmp_path: Path, suffix: str) -> None:
    source = save(tmp_path / f"a.{suffix}", **tagged(icc_profile=SRGB))
    made = [tmp_path / "b" / source.name]
    made[0].parent.mkdir()
    report = compress(source, "a", made[0], 1.0, metadata="strip")
    assert (report.left_out, report.bytes_out) == (None, made[0].stat().st_size)
    for format in get_args(ImageFormat):
        made.append(tmp_path / "b" / f"a.of.{format}")
        report = convert(source, "a", made[-1], format, metadata="strip")
        assert report.outcome == "done"
    for target in made:
        assert b"Leica" not in target.read_bytes()
        with Image.open(target) as image:
            assert 0x010F not in image.getexif()
            assert PLACE not in image.getexif()
            assert image.info["icc_profile"] == SRGB


def test_stripped_picture_stays_the_same_way_up(tmp_path: Path) -> None:
    options = tagged()
    options["exif"][ORIENTATION] = 6
    source = save(tmp_path / "a.jpg", **options)
    compress(source, "a", tmp_path / "b.jpg", 1.0, metadata="strip")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[ORIENTATION] == 6
        assert 0x010F not in image.getexif()


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "avif"])
def test_kept_metadata_is_kept(tmp_path: Path, format: ImageFormat) -> None:
    source = save(tmp_path / "a.jpg", **tagged())
    report = convert(source, "a", tmp_path / "b", format)
    assert (report.outcome, report.left_out) == ("done", None)
    with Image.open(tmp_path / "b") as image:
        assert image.getexif()[0x010F] == "Leica"
        assert image.getexif().get_ifd(PLACE)[1] == "N"


def test_metadata_that_is_not_kept_is_named(tmp_path: Path) -> None:
    report = convert(save(tmp_path / "a.jpg", **tagged()), "a", tmp_path / "b", "tiff")
    assert (report.outcome, report.left_out) == ("done", ["EXIF metadata"])


def with_thumbnail(path: Path, orientation: int) -> Path:
    """A JPEG whose EXIF holds a thumbnail, made of the picture as it lies in the file."""
    small = io.BytesIO()
    photo(64, 48).save(small, "JPEG", quality=90)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    block = exif.tobytes()
    head, entries = (
        block[6:],
        int.from_bytes(block[14:16], "big" if block[6:8] == b"MM" else "little"),
    )
    order: Any = "big" if head[:2] == b"MM" else "little"
    end = 8 + 2 + 12 * entries
    at = len(head) + len(head) % 2
    thumbnail = at + 2 + 2 * 12 + 4
    directory = (2).to_bytes(2, order)
    for tag, value in ((0x0201, thumbnail), (0x0202, len(small.getvalue()))):
        directory += tag.to_bytes(2, order) + (4).to_bytes(2, order)
        directory += (1).to_bytes(4, order) + value.to_bytes(4, order)
    head = head[:end] + at.to_bytes(4, order) + head[end + 4 :].ljust(at - end - 4, b"\0")
    whole = b"Exif\0\0" + head + directory + bytes(4) + small.getvalue()
    return save(path, exif=whole)


def thumbnail_of(path: Path) -> Image.Image:
    data = vips.metadata(vips.open_picture(path).header, "jpeg-thumbnail-data")
    assert isinstance(data, bytes)
    return Image.open(io.BytesIO(data))


def test_thumbnail_follows_the_orientation(tmp_path: Path) -> None:
    source = with_thumbnail(tmp_path / "a.jpg", 6)
    assert thumbnail_of(source).size == (64, 48)
    convert(source, "a", tmp_path / "b.jpg", "jpeg")
    turned = photo(64, 48).transpose(Image.Transpose.ROTATE_270)
    assert distance(thumbnail_of(tmp_path / "b.jpg"), turned) < 8
    compress(source, "a", tmp_path / "c.jpg", 0.8)  # which keeps the picture as it lies
    assert distance(thumbnail_of(tmp_path / "c.jpg"), photo(64, 48)) < 8
    convert(source, "a", tmp_path / "d.jpg", "jpeg", metadata="strip")
    assert not vips.open_picture(tmp_path / "d.jpg").header.get_typeof("jpeg-thumbnail-data")
