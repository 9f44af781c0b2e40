"""Pictures: real files, made and judged by Pillow, which shares no code with libvips' pipeline."""

import errno
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, ImageSequence

from tasks import encoders, pictures
from tasks.contracts import ImageFormat
from tasks.images import ImageReport, before_and_after, compress, convert

_profile: Any = ImageCms  # Pillow leaves the type of createProfile open
SRGB: bytes = _profile.ImageCmsProfile(_profile.createProfile("sRGB")).tobytes()
ORIENTATION = 0x0112
SAVE: dict[str, dict[str, Any]] = {
    "jpg": {"quality": 95},
    "png": {},
    "webp": {"quality": 95},
    "avif": {"quality": 95},
    "tif": {"compression": "tiff_adobe_deflate"},
    "gif": {},
}
PILLOW = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "avif": "AVIF", "tif": "TIFF", "gif": "GIF"}


def photo(width: int = 320, height: int = 240, shift: int = 0) -> Image.Image:
    """Smooth gradients under a little noise, and a corner that tells which way is up."""
    y, x = np.mgrid[0:height, 0:width]
    x = x + shift
    planes = [128 + 90 * np.sin(x / 60 + y / 40), 60 + 150 * x / width, 200 - 150 * y / height]
    noise = np.random.default_rng(7).normal(0, 3, (height, width, 3))
    pixels = (np.stack(planes, -1) + noise).clip(0, 255).astype(np.uint8)
    pixels[: height // 4, : width // 4] = (250, 20, 20)
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image | None = None, **options: Any) -> Path:
    (image or photo()).save(path, **{**SAVE[path.suffix[1:]], **options})
    return path


def squeeze(source: Path, ratio: float) -> tuple[ImageReport, Path]:
    target = source.parent / "out" / source.name
    target.parent.mkdir(exist_ok=True)
    return compress(source, f"trip/{source.name}", target, ratio), target


def turn_into(source: Path, format: ImageFormat) -> tuple[ImageReport, Path]:
    target = source.parent / "out" / f"{source.stem}.{format}"
    target.parent.mkdir(exist_ok=True)
    return convert(source, f"trip/{source.name}", target, format), target


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of the channels, 0 to 255."""
    assert one.size == other.size
    left, right = (_pixels(image) for image in (one, other))
    return float(np.abs(left - right).mean())


def _pixels(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image.convert("RGB"), dtype=np.float64)


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


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_one_quality_more_would_not_fit_in_a_jpeg(tmp_path: Path, mode: str) -> None:
    source = save(tmp_path / "a.jpg", photo().convert(mode))
    report, target = squeeze(source, 0.4)
    assert report.outcome == "done"
    assert report.quality is not None
    with Image.open(target) as image:
        assert image.mode == mode
    picture = pictures.open_picture(source)
    (stage,) = encoders.stages(picture, 10**9)
    sizes: list[int] = []
    for encoding in stage.encodings[report.quality - 1 : report.quality + 1]:
        with pictures.encode(picture.image(), "jpeg", encoding.options, target) as file:
            sizes.append(file.seek(0, 2))
    assert sizes[0] <= 0.4 * report.bytes_in < sizes[1]


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


def test_the_original_is_kept_where_every_encoding_is_larger(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", Image.new("1", (1, 1)), optimize=True)
    report, target = squeeze(source, 0.5)
    assert (report.outcome, report.ratio, report.quality) == ("missed", 1.0, None)
    assert target.read_bytes() == source.read_bytes()


def every_kind(folder: Path) -> list[Path]:
    frames = [photo(shift=20 * n) for n in range(4)]
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:]}
    return [
        *(save(folder / f"a.{suffix}") for suffix in SAVE),
        save(folder / "progressive.jpg", progressive=True),
        *(save(folder / f"several.{s}", frames[0], **several) for s in ("gif", "webp", "tif")),
    ]


@pytest.mark.parametrize("share", [0.4, 0.7, 0.97])
@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_a_truncated_file_is_broken(tmp_path: Path, share: float, ratio: float) -> None:
    for source in every_kind(tmp_path):
        content = source.read_bytes()
        source.write_bytes(content[: int(len(content) * share)])
        for report, target in (squeeze(source, ratio), turn_into(source, "png")):
            assert report.outcome == "broken", source.name
            assert report.reason is not None
            assert "truncated" in report.reason
            assert (report.output, report.bytes_out, report.ratio) == (None, None, None)
            assert not target.exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Dear Sir,\n", "not an image"),
        (b"", "empty file"),
        (b"BM" + bytes(60), "format BMP is not supported"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "format SVG is not supported"),
        (b"%PDF-1.7\n", "format PDF is not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "format HEIC is not supported"),
    ],
)
def test_what_is_no_picture_of_ours_is_broken(tmp_path: Path, content: bytes, reason: str) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(content)
    for report, target in (squeeze(source, 0.5), turn_into(source, "webp")):
        assert (report.outcome, report.reason) == ("broken", reason)
        assert not target.exists()


def test_a_missing_file_is_broken(tmp_path: Path) -> None:
    report, _ = squeeze(tmp_path / "gone.jpg", 0.5)
    assert report.reason == "cannot be read: No such file or directory"


def test_an_animated_png_is_broken_and_not_cut_to_one_frame(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png", save_all=True, append_images=[photo(shift=50)])
    report, _ = squeeze(source, 0.5)
    assert report.reason == "format animated PNG is not supported"


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    source = save(tmp_path / "a.png").rename(tmp_path / "a.jpg")
    _, target = squeeze(source, 0.9)
    with Image.open(target) as image:
        assert image.format == "PNG"


def test_a_name_with_options_or_other_bytes_is_only_a_name(tmp_path: Path) -> None:
    for name in ("a[shrink=8].jpg", "b\udcff.jpg", "ü ☃.jpg"):
        report, target = squeeze(save(tmp_path / "a.jpg").rename(tmp_path / name), 0.5)
        assert report.outcome == "done"
        with Image.open(target) as image:
            assert image.size == (320, 240)


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
        monkeypatch.setattr(pictures, "DECODED_IN_MEMORY", 1000)
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
        corner = _pixels(image)[20, 20]
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
            assert np.abs(_pixels(image)[..., 0] - deep / 257).mean() < 3


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


def test_pages_of_different_sizes_are_not_lost(tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", save_all=True, append_images=[photo(100, 100)])
    report, _ = squeeze(source, 0.5)
    assert report.reason == "TIFF pages are truncated, or of different sizes"


def test_too_many_pixels_for_the_format(tmp_path: Path) -> None:
    report, _ = turn_into(save(tmp_path / "a.png", Image.new("L", (16400, 2))), "webp")
    assert report.reason == "WEBP holds at most 16383 pixels a side"


@pytest.mark.parametrize("suffix", SAVE)
def test_streaming_gives_what_memory_gives(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = save(tmp_path / f"a.{suffix}")
    kept, target = squeeze(source, 0.3)
    with Image.open(target) as image:
        expected = image.convert("RGB")
    monkeypatch.setattr(pictures, "DECODED_IN_MEMORY", 1000)
    monkeypatch.setattr(pictures, "ENCODED_IN_MEMORY", 1000)
    report, target = squeeze(source, 0.3)
    assert report.outcome == kept.outcome == "done"
    with Image.open(target) as image:
        assert distance(image, expected) < 2  # a JPEG has no optimal Huffman tables here
    assert list(target.parent.iterdir()) == [target]


def test_a_truncated_stream_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "DECODED_IN_MEMORY", 1000)
    test_a_truncated_file_is_broken(tmp_path, 0.7, 0.5)


def test_a_whole_picture_coder_refuses_what_would_burst_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DECODED_BY_WHOLE_CODER", 1000)
    for source in (save(tmp_path / "a.webp"), save(tmp_path / "a.jpg", progressive=True)):
        report, _ = squeeze(source, 0.5)
        assert report.reason is not None
        assert report.reason.startswith("320 x 240 pixels are too many for")


@pytest.mark.parametrize("in_memory", [1000, 10**9])
def test_a_full_disk_is_raised_and_leaves_nothing(
    tmp_path: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "DECODED_IN_MEMORY", in_memory)
    source = save(tmp_path / "a.jpg")
    # By a link, because what is half written is removed: the link, then, and not the device.
    full = tmp_path / "full.jpg"
    full.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        compress(source, "a.jpg", full, 0.5)
    assert caught.value.errno == errno.ENOSPC
    assert not full.is_symlink()
    with pytest.raises(FileNotFoundError):
        compress(source, "a.jpg", tmp_path / "gone" / "a.jpg", 0.5)


def test_a_disk_that_fills_while_encoding_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(*_: object, **__: object) -> Full:
        return Full()

    monkeypatch.setattr(pictures.tempfile, "SpooledTemporaryFile", full)
    for source in every_kind(tmp_path):
        with pytest.raises(OSError, match="No space left"):
            squeeze(source, 0.5)


def test_threads_do_not_mix_their_pictures(tmp_path: Path) -> None:
    sources = every_kind(tmp_path)
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(sources[0].read_bytes()[:4000])
    expected = [squeeze(source, 0.4)[0] for source in sources]

    def report_on(source: Path) -> ImageReport:
        return squeeze(source, 0.4)[0]

    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(report_on, [*sources, *[broken] * 10]))
    assert reports[: len(sources)] == expected
    assert {report.reason for report in reports[len(sources) :]} == {"truncated or damaged JPEG"}


def test_a_picture_of_100_megapixels_stays_within_250_mb(tmp_path: Path) -> None:
    code = """
import json, sys
from pathlib import Path
import pyvips
from tasks.images import compress
folder = Path(sys.argv[1])
def peak():  # ru_maxrss would begin at the parent's
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
base = pyvips.Image.xyz(10000, 10000).sin().linear([90, 90], [128, 128])
base.bandjoin(base[0]).cast("uchar").copy(interpretation="srgb").jpegsave(
    str(folder / "a.jpg"), Q=90)
before = peak()
report = compress(folder / "a.jpg", "a.jpg", folder / "b.jpg", 0.7)
print(json.dumps([report.outcome, before, peak()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    outcome, before, peak = json.loads(done.stdout)
    assert outcome == "done"
    # 300 MB decoded; making the picture counts as well.
    assert peak < 250 * 1024, f"{before} KiB before, {peak} KiB after"


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


@pytest.mark.parametrize("budget", [0.5, 1, 17, 50.2, 99.9, 100, 1000])
def test_the_search_finds_the_highest_rung_that_fits(budget: float) -> None:
    calls: list[int] = []

    def measure(rung: int) -> int:
        calls.append(rung)
        return 1000 * (rung + 1)

    found = encoders.highest_fitting(measure, int(budget * 1000), 100)
    assert found == (None if budget < 1 else min(int(budget), 100) - 1)
    assert len(calls) == len(set(calls)) <= 13
