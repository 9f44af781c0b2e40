"""What a file holds beside its picture is kept, or refused, or reported: never lost unsaid."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tasks.contracts import ImageFormat
from tasks.images import vips
from tests.tasks.images.drawings import distance, photo, save, squeeze, turn_into
from tests.tasks.images.tiffs import REDUCED, ramp, tiff

FRAMES = [photo(64, 48, shift=9 * n) for n in range(3)]
SEVERAL: dict[str, Any] = {"save_all": True, "append_images": FRAMES[1:]}
Make = Callable[[Path], Path]
PIXELS = np.asarray(photo(64, 48))


@pytest.mark.parametrize("format", get_args(ImageFormat))
@pytest.mark.parametrize("suffix", ["gif", "webp", "tif"])
def test_frames_and_pages_are_kept_or_named(
    tmp_path: Path, suffix: str, format: ImageFormat
) -> None:
    source = save(tmp_path / f"a.{suffix}", FRAMES[0], **SEVERAL)
    report, target = turn_into(source, format)
    part = "pages" if suffix == "tif" else "frames"
    kept = format == "tiff" or (format == "webp" and suffix != "tif")
    with Image.open(target) as image:
        assert len(list(ImageSequence.Iterator(image))) == (3 if kept else 1)
        if kept:
            image.seek(2)
            assert distance(image, FRAMES[2]) < 20
    if not kept:
        assert report.outcome == "reduced"
        assert report.left_out == [f"{part} 2 to 3 of 3"]
        assert report.reason == f"left out: {part} 2 to 3 of 3"
    elif format == "tiff" and suffix != "tif":
        assert report.left_out == ["the timing of the frames"]
    else:
        assert (report.outcome, report.left_out) == ("done", None)


def test_large_animation_keeps_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vips, "DECODED_IN_MEMORY", 64 * 48 * 4)
    monkeypatch.setattr(vips, "DECODED_BY_WHOLE_CODER", 64 * 48 * 4)
    source = save(tmp_path / "a.gif", FRAMES[0], **SEVERAL)
    report, target = turn_into(source, "webp")
    assert report.outcome == "done"
    with Image.open(target) as image:
        assert len(list(ImageSequence.Iterator(image))) == 3


@pytest.mark.parametrize(
    ("page", "tags", "said"),
    [
        (FRAMES[1].convert("L"), {}, "page 2 has another number of channels than page 1"),
        (FRAMES[1].quantize(64), {}, "page 2 has another number of channels than page 1"),
        (FRAMES[1], {274: 3}, "page 2 has another orientation than page 1"),
        (photo(30, 40), {}, "page 2 is 30 x 40, and page 1 64 x 48"),
    ],
    ids=["grey", "palette", "orientation", "size"],
)
def test_page_unlike_the_first_is_never_lost_unsaid(
    tmp_path: Path, page: Image.Image, tags: dict[int, int], said: str
) -> None:
    source = save(tmp_path / "a.tif", FRAMES[0], compression="raw")
    join(source, save(tmp_path / "b.tif", page, compression="raw", tiffinfo=tags))
    for report, _ in (squeeze(source, 0.5), turn_into(source, "tiff")):
        assert report.outcome == "broken"
        assert report.reason == (
            f"TIFF with unlike pages ({said}): write each page to a file of its own"
        )
    report, _ = turn_into(source, "png")
    assert (report.outcome, report.left_out) == ("reduced", ["page 2 of 2"])


def test_pages_on_their_side_are_all_turned(tmp_path: Path) -> None:
    source = save(tmp_path / "a.tif", FRAMES[0], **SEVERAL, tiffinfo={274: 6})
    report, target = turn_into(source, "tiff")
    assert report.outcome == "done"
    with Image.open(target) as image:
        for number, page in enumerate(FRAMES):
            image.seek(number)
            assert distance(image, page.transpose(Image.Transpose.ROTATE_270)) < 1


def chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(*chunks: bytes, behind: bytes = b"", folder: Path) -> Path:
    source = save(folder / "a.png", photo(64, 48))
    content = source.read_bytes()
    source.write_bytes(content[:33] + b"".join(chunks) + content[33:] + behind)
    return source


def jpeg(*segments: tuple[int, bytes], behind: bytes = b"", folder: Path) -> Path:
    source = save(folder / "a.jpg", photo(64, 48), progressive=True)
    content = source.read_bytes()
    written = b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(held) + 2) + held for marker, held in segments
    )
    source.write_bytes(content[:2] + written + content[2:] + behind)
    return source


VIDEO = struct.pack(">I", 24) + b"ftypmp42" + bytes(300)


def gainmap(folder: Path) -> Path:
    source = folder / "a.jpg"
    # Pictures of its own: Pillow leaves a JPEG's settings in them, which its TIFF writer refuses.
    others = [photo(64, 48, shift=9)]
    photo(64, 48).save(source, "MPO", save_all=True, append_images=others)
    return source


BESIDE: list[tuple[Make, str]] = [
    (gainmap, "picture 2 of 2 (such as a gain map for HDR)"),
    (lambda f: jpeg(behind=VIDEO, folder=f), "a video of 312 bytes after the picture"),
    (lambda f: jpeg(behind=b"SEFH" * 8, folder=f), "32 bytes after the end of the picture"),
    (lambda f: jpeg((0xEB, b"JP" + bytes(16)), folder=f), "a JUMBF box"),
    (
        lambda f: jpeg((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40)), folder=f),
        "extended XMP",
    ),
    (lambda f: png(chunk(b"mkBF", b"layers"), folder=f), "private chunks (mkBF)"),
    (lambda f: png(behind=b"the uncropped", folder=f), "13 bytes after the end"),
    (lambda f: png(chunk(b"gAMA", struct.pack(">I", 100_000)), folder=f), "the gamma of 1"),
    (
        lambda f: save(f / "a.avif", FRAMES[0], **SEVERAL, duration=70),
        "2 more frames of its sequence",
    ),
    (lambda f: tiff(f / "a.tif", PIXELS, 2, (37724, 7, [1] * 9)), "Photoshop layers"),
    (lambda f: tiff(f / "a.tif", PIXELS, 2, (34735, 3, [1, 1, 0, 0])), "the georeference"),
]


@pytest.mark.parametrize(
    ("make", "left_out"),
    BESIDE,
)
def test_what_cannot_be_written_again_is_named(tmp_path: Path, make: Make, left_out: str) -> None:
    source = make(tmp_path)
    for report, _ in (squeeze(source, 0.6), turn_into(source, "webp")):
        assert report.outcome in ("reduced", "missed"), report
        assert report.left_out is not None
        assert left_out in report.left_out[0]
    report, target = squeeze(source, 1.0)
    assert (report.outcome, report.left_out) == ("done", None)
    assert target.read_bytes() == source.read_bytes()


CONTROL = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 10, 0, 0)
ONE_FRAME = chunk(b"acTL", struct.pack(">II", 1, 0)), chunk(b"fcTL", CONTROL)

NOTHING: list[Make] = [
    lambda f: png(*ONE_FRAME, folder=f),  # the one frame is the picture
    lambda f: jpeg(behind=bytes(64), folder=f),  # padding of a block
    lambda f: png(chunk(b"iDOT", bytes(28)), folder=f),  # macOS, without content
    lambda f: png(chunk(b"gAMA", struct.pack(">I", 45_455)), folder=f),  # sRGB's own
]


@pytest.mark.parametrize(
    "make",
    NOTHING,
)
def test_what_holds_nothing_is_not_named(tmp_path: Path, make: Make) -> None:
    report, _ = turn_into(make(tmp_path), "webp")
    assert (report.outcome, report.left_out) == ("done", None)


def raw_as_tiff(path: Path) -> Path:
    """A preview first, the picture in a sub-directory, as NEF has it."""
    full = ramp("u1", 0, 255)
    tiff(path, full, 1)
    content = path.read_bytes()
    (at,) = struct.unpack_from("<I", content, 4)
    small = np.zeros((12, 16, 3), np.uint8)
    tiff(path, small, 2, REDUCED, (330, 4, [0x7FFF]))
    preview = path.read_bytes()
    # The whole other file behind this one, its offsets moved by so much.
    base = len(preview)
    moved = bytearray(content)
    count = struct.unpack_from("<H", content, at)[0]
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == 273:
            struct.pack_into("<I", moved, entry + 8, base + 8)
    preview = preview.replace(
        struct.pack("<HHII", 330, 4, 1, 0x7FFF), struct.pack("<HHII", 330, 4, 1, base + at)
    )
    path.write_bytes(preview + bytes(moved))
    return path


ANOTHER: list[tuple[Make, str]] = [
    (lambda f: raw_as_tiff(f / "a.nef"), "only a preview (16 x 12) of another of 64 x 48"),
    (lambda f: tiff(f / "a.dng", PIXELS, 34892), "camera raw"),
    (lambda f: tiff(f / "a.arw", ramp("u2", 0, 9999), 32803), "camera raw"),
    (lambda f: tiff(f / "a.dng", PIXELS, 2, (50706, 1, [1, 4, 0, 0])), "camera raw"),
    (lambda f: written(f, b"II*\0\x10\0\0\0CR\x02\0"), "CR2 (camera raw) is not supported"),
    (lambda f: written(f, b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"), "CR3 (camera raw)"),
    (lambda f: written(f, b"FUJIFILMCCD-RAW 0201"), "RAF (camera raw)"),
    (lambda f: written(f, b"IIU\0\x18\0\0\0"), "RW2 (camera raw)"),
    (lambda f: written(f, b"gimp xcf v011\0"), "format XCF is not supported"),
    (lambda f: written(f, b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"), "MP4 (a video)"),
    (lambda f: png(chunk(b"cICP", bytes((9, 16, 0, 1))), folder=f), "HDR colours (PQ)"),
    (lambda f: png(chunk(b"CgBI", bytes(4)), folder=f), "CgBI"),
    (
        lambda f: png(chunk(b"tEXt", b"C\0" + b"x" * 99_999), chunk(b"acTL", bytes(8)), folder=f),
        "format animated PNG is not supported",
    ),
    # The one frame is behind the picture, which is not part of the animation.
    (lambda f: png(ONE_FRAME[0], folder=f), "format animated PNG is not supported"),
]


@pytest.mark.parametrize(
    ("make", "reason"),
    ANOTHER,
)
def test_what_is_another_picture_than_it_seems_is_broken(
    tmp_path: Path, make: Make, reason: str
) -> None:
    source = make(tmp_path)
    for report, target in (squeeze(source, 0.5), turn_into(source, "jpeg")):
        assert report.outcome == "broken"
        assert reason in (report.reason or "")
        assert not target.exists()


def written(folder: Path, content: bytes) -> Path:
    (folder / "a.bin").write_bytes(content + bytes(200))
    return folder / "a.bin"


def test_smaller_copies_of_a_page_are_no_pages(tmp_path: Path) -> None:
    # Pillow writes no NewSubfileType of its own.
    source = save(tmp_path / "a.tif", photo(64, 48), compression="raw")
    small = save(tmp_path / "b.tif", photo(16, 12), compression="raw", tiffinfo={254: 1})
    join(source, small)
    for report, _ in (squeeze(source, 0.9), turn_into(source, "png")):
        assert report.outcome == "reduced"
        assert report.left_out == ["a smaller copy of 16 x 12"]


def join(source: Path, page: Path) -> None:
    """Append the one page of a little-endian TIFF to another, its offsets moved."""
    content, more = bytearray(source.read_bytes()), bytearray(page.read_bytes())
    content += bytes(len(content) % 2)
    base = len(content)
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    (at,) = struct.unpack_from("<I", more, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", more, at)[0], 12):
        tag, kind, count, held = struct.unpack_from("<HHII", more, entry)
        if tag == 273 or sizes[kind] * count > 4:
            struct.pack_into("<I", more, entry + 8, held + base)
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * entries, base + at)
    source.write_bytes(bytes(content + more))
