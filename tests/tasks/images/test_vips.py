"""Files that are damaged, foreign, huge, or on a full disk: refused by name, in bounded memory."""

import errno
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.images import vips
from tasks.images.transform import ImageReport, compress
from tests.tasks.images.drawings import (
    SAVE,
    distance,
    every_kind,
    photo,
    save,
    squeeze,
    turn_into,
)
from tests.tasks.small_disks import on_small_disk


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


# A damaged PNG warns when it is decoded, a damaged JPEG when it is freed: here by the garbage
# collector, which runs whenever Python does.
_COLLECTED = """
import gc, sys
from tasks.images import vips
import pyvips

class Kept: pass

gc.set_threshold(1)
for source in sys.argv[1:] * 100:
    picture = pyvips.Image.new_from_file(source, fail_on="none").gaussblur(1.5)
    kept = Kept()
    kept.picture, kept.itself = picture, kept
    picture.copy_memory()
"""


def test_garbage_is_collected_while_libvips_warns(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (600, 600, 3), np.uint8))
    sources = [save(tmp_path / name, noise) for name in ("a.jpg", "a.png")]
    for source in sources:
        source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    program = [sys.executable, "-c", _COLLECTED, *map(str, sources)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Dear Sir,\n", "not an image"),
        (b"", "empty file"),
        (b"BM" + bytes(60), "format BMP is not supported"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "format SVG is not supported"),
        (b"%PDF-1.7\n", "format PDF is not supported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "truncated or damaged HEIC"),
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


def test_pages_of_different_sizes_are_not_lost(tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", save_all=True, append_images=[photo(100, 100)])
    report, _ = squeeze(source, 0.5)
    assert report.reason == (
        "TIFF with unlike pages (page 2 is 100 x 100, and page 1 320 x 240): write each page to a "
        "file of its own"
    )


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
    monkeypatch.setattr(vips, "DECODED_IN_MEMORY", 1000)
    monkeypatch.setattr(vips, "ENCODED_IN_MEMORY", 1000)
    report, target = squeeze(source, 0.3)
    assert report.outcome == kept.outcome == "done"
    with Image.open(target) as image:
        assert distance(image, expected) < 2  # a JPEG has no optimal Huffman tables here
    assert list(target.parent.iterdir()) == [target]


def test_a_truncated_stream_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vips, "DECODED_IN_MEMORY", 1000)
    test_a_truncated_file_is_broken(tmp_path, 0.7, 0.5)


def test_a_whole_picture_coder_refuses_what_would_burst_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vips, "DECODED_BY_WHOLE_CODER", 1000)
    for source in (save(tmp_path / "a.webp"), save(tmp_path / "a.jpg", progressive=True)):
        report, _ = squeeze(source, 0.5)
        assert report.reason is not None
        assert report.reason.startswith("320 x 240 pixels are too many for")


@pytest.mark.parametrize("in_memory", [1000, 10**9])
def test_a_full_disk_is_raised_and_leaves_nothing(tmp_path: Path, in_memory: int) -> None:
    source, disk = save(tmp_path / "a.jpg", photo(1200, 900)), tmp_path / "disk"
    me = "tests.tasks.images.test_vips"
    assert on_small_disk(disk, "size=8k", me, source, disk, in_memory) == "ENOSPC, 0 files"


def test_a_target_without_a_folder_is_raised(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        compress(save(tmp_path / "a.jpg"), "a.jpg", tmp_path / "gone" / "a.jpg", 0.5)


def test_a_disk_that_fills_while_encoding_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(*_: object, **__: object) -> Full:
        return Full()

    monkeypatch.setattr(vips.tempfile, "SpooledTemporaryFile", full)
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
from tasks.images.transform import compress
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
        cwd=Path(__file__).parents[3],
    )
    outcome, before, peak = json.loads(done.stdout)
    assert outcome == "done"
    # 300 MB decoded; making the picture counts as well.
    assert peak < 250 * 1024, f"{before} KiB before, {peak} KiB after"


def compress_on_full_disk(source: Path, disk: Path, in_memory: int) -> str:
    vips.DECODED_IN_MEMORY = in_memory
    try:
        compress(source, "a.jpg", disk / "a.jpg", 0.5)
    except OSError as error:
        return f"{errno.errorcode[error.errno or 0]}, {len(list(disk.iterdir()))} files"
    return "written"


if __name__ == "__main__":
    print(compress_on_full_disk(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
