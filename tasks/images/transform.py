"""Compresses or converts one picture file, and reports the outcome.

Memory is bounded for any size of input, and every function may be called from several threads at
once. A broken file is reported, not raised; a target that cannot be written raises OSError.
"""

import errno
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

import pyvips
from pydantic import BaseModel, ConfigDict

from tasks.contracts import ImageFormat, Metadata
from tasks.images import colours, encoders, indexed, shaping, vips
from tasks.images.encoders import Encoding, Stage
from tasks.images.vips import Picture, Unreadable, VipsError

PREVIEW_BYTES = 30_000
_COPIED_AT_ONCE = 1024 * 1024
_PART = {"gif": "frame", "webp": "frame", "tiff": "page"}
# Metadata that libvips does not write into a format.
_NOT_KEPT = {
    "tiff": {"exif-data": "EXIF metadata"},
    "png": {"iptc-data": "IPTC metadata"},
    "webp": {"iptc-data": "IPTC metadata"},
    "avif": {"iptc-data": "IPTC metadata"},
}


class ImageReport(BaseModel):
    """The outcome of one picture."""

    model_config = ConfigDict(frozen=True)

    source: str
    outcome: Literal["done", "reduced", "missed", "broken"]
    """Reduced: published without some part of the picture. Missed: not of the wanted size."""
    output: str | None = None
    bytes_in: int
    bytes_out: int | None = None
    ratio: float | None = None
    quality: int | None = None
    reason: str | None = None
    left_out: list[str] | None = None
    """Content of the file that the output lacks: parts of the picture, then metadata."""


class Box(NamedTuple):
    """The most pixels that a picture, as shown, may have in width and height."""

    width: int | None = None
    height: int | None = None


UNBOUNDED = Box()


def compress(
    source: Path,
    name: str,
    target: Path,
    ratio: float,
    box: Box = UNBOUNDED,
    metadata: Metadata = "keep",
) -> ImageReport:
    """Write `source` to `target` in its own format, in at most `ratio` of its bytes.

    The highest quality that fits is used. Where nothing fits, the smallest encoding found, or the
    original where that is smaller, is written and reported as missed. Raises OSError where `target`
    cannot be written.
    """
    try:
        bytes_in = _size(source)
        picture = vips.open_picture(source)
        budget = max(1, int(ratio * bytes_in))  # at least 1: the search takes its logarithm
        fits = shaping.fits(picture.header, *box)
        untouched = fits and metadata == "keep"
        if not fits and picture.writable:
            picture = picture.edited(partial(shaping.shrink, width=box.width, height=box.height))
        picture = picture.decode()
        if not picture.writable:
            missed = _not_written(picture, metadata)
            kept = bytes_in <= budget and fits
            return _keep(picture, name, target, bytes_in, None if kept else missed)
        if bytes_in <= budget and untouched:
            return _keep(picture, name, target, bytes_in, None)
        best = _search(picture, budget, target, metadata)
        if best.size >= bytes_in and untouched:
            best.file.close()
            missed = "no encoding is smaller than the original, which was kept"
            return _keep(picture, name, target, bytes_in, missed)
    except Unreadable as fault:
        return _broken(name, source, fault)
    with best.file:
        _publish(best.file, target)
    parts, unread = _left_out(picture), [] if metadata == "strip" else _unread(picture)
    if best.stage.is_quantised:  # the other ways to write PNG keep transparency
        parts += colours.changed_transparency(picture.image(), vips.load(target, "png"))
    if best.stage.to_8_bit:
        parts.append("the depth (16 bits became 8)")
    if metadata == "keep" and not best.stage.metadata:
        unread.append("metadata, for the ratio's sake")
    missed = f"best reached is {best.size / bytes_in:.3g} of the input's bytes"
    report = _report(name, target, bytes_in, best.quality, missed if best.size > budget else None)
    return _with_left_out(report, parts, unread)


def convert(
    source: Path,
    name: str,
    target: Path,
    format: ImageFormat,
    box: Box = UNBOUNDED,
    metadata: Metadata = "keep",
) -> ImageReport:
    """Write `source` to `target` as `format`, upright, in that format's default quality.

    The profile is kept where the format can hold its colours, CMYK becomes sRGB, transparency
    becomes white in a JPEG. Losses are reported. Raises OSError where `target` cannot be written.
    """
    try:
        bytes_in = _size(source)
        picture = _pages_for(source, format).decode()
        parts, unread = _left_out(picture, format), _unread(picture, format)
        try:
            image = shaping.shrink(_upright(picture), *box)
            image, more = colours.presentable(image, format)
            keep = encoders.KEEP_ALL
            if metadata == "strip":
                (image, keep), unread = encoders.without_metadata(image), []
            encoding = encoders.default_encoding(format, picture)
            options = {**encoding.options, "keep": keep}
            encoded = vips.encode(image, format, options, target)
        except VipsError:
            fault = picture.explain(format)
            _check_room(picture)
            raise fault from None
    except Unreadable as fault:
        return _broken(name, source, fault)
    with encoded:
        _publish(encoded, target)
    report = _report(name, target, bytes_in, encoding.quality)
    return _with_left_out(report, parts + more, unread)


def before_and_after(source: Path, result: Path, width: int = 320) -> bytes | None:
    """Both pictures side by side, upright, as WebP of at most 30 kB; None where one is unreadable.

    Each is shrunk to fit a square of `width` pixels; neither is enlarged.
    """
    try:
        left, right = (_thumbnail(path, width) for path in (source, result))
        pair = left.join(right, "horizontal", expand=True, shim=8, background=colours.WHITE)
        for quality in (80, 60, 40, 20, 1):
            encoded = pair.webpsave_buffer(Q=quality, keep=0)
            if len(encoded) <= PREVIEW_BYTES:
                return encoded
    except (Unreadable, VipsError):
        return None
    return None


class _Encoded(NamedTuple):
    file: IO[bytes]
    size: int
    quality: int | None
    stage: Stage


def _search(picture: Picture, budget: int, target: Path, metadata: Metadata) -> _Encoded:
    """The best encoding that fits, or else the smallest one."""
    best: _Encoded | None = None

    def measure(stage: Stage, rung: int) -> int:
        nonlocal best
        encoding = stage.encodings[rung]
        file = _encode(picture, stage, encoding, target)
        size = file.seek(0, 2)
        # An encoding that fits is better than all before it: the search only goes up from there.
        if best is None or size <= budget or size < best.size:
            if best is not None:
                best.file.close()
            best = _Encoded(file, size, encoding.quality, stage)
        else:
            file.close()
        return size

    try:
        for stage in encoders.stages(picture, budget, keep_metadata=metadata == "keep"):
            if encoders.search(partial(measure, stage), budget, stage) is not None:
                break
    except BaseException:
        if best is not None:
            best.file.close()
        raise
    assert best is not None, "there is always a stage, and it always measures"
    return best


def _encode(picture: Picture, stage: Stage, encoding: Encoding, target: Path) -> IO[bytes]:
    try:
        image, keep = picture.image(), encoders.KEEP_ALL
        if not stage.metadata:
            image, keep = encoders.without_metadata(image)
        if stage.to_8_bit:
            image = colours.in_8_bit(image)
        if encoding.shades_bits is not None:
            image = colours.in_shades(image, encoding.shades_bits)
        options = {**encoding.options, "keep": keep}
        if stage.palette is not None:
            return indexed.encode(image, stage.palette, options, target)
        return vips.encode(image, picture.format, options, target)
    except VipsError:
        raise picture.explain(picture.format) from None


def _not_written(picture: Picture, metadata: Metadata) -> str:
    """Why a picture is kept as it is. Raises Unreadable where its metadata must be stripped."""
    kind = "TIFF in LAB colours" if picture.format == "tiff" else picture.format.upper()
    if metadata == "strip":
        raise Unreadable(
            f"{kind} is read and not written, so that its metadata cannot be stripped: use "
            "convert-images"
        )
    return f"{kind} is read and not written: the original was kept; convert-images converts it"


def _keep(
    picture: Picture, name: str, target: Path, bytes_in: int, missed: str | None
) -> ImageReport:
    """Write the original as the output: it fits, or nothing better can be written."""
    picture.verify()
    _publish(picture.source, target)
    return _report(name, target, bytes_in, None, missed)


def _pages_for(source: Path, format: ImageFormat) -> Picture:
    """Open the picture with the pages that `format` can hold: frames in WebP, pages in TIFF."""
    first = vips.open_picture(source, all_pages=False)
    vips.check_size(first, format)
    animated = first.format in ("gif", "webp")
    several = (
        animated if format == "webp" else format == "tiff" and (animated or first.format == "tiff")
    )
    if first.pages_in_file == 1 or not several or not first.writable:
        return first
    return vips.open_picture(source)


def _left_out(picture: Picture, format: ImageFormat | None = None) -> list[str]:
    """Parts of a picture that are in its file but not in the processed pages."""
    found: list[str] = []
    if picture.pages_in_file > picture.pages:
        part, last = _PART.get(picture.format, "picture"), picture.pages_in_file
        some = f"{part} {last}" if last == picture.pages + 1 else f"{part}s 2 to {last}"
        found.append(f"{some} of {last}")
    elif format == "tiff" and picture.pages > 1 and picture.format != "tiff":
        found.append("the timing of the frames")
    return [*found, *picture.beside]


def _unread(picture: Picture, format: ImageFormat | None = None) -> list[str]:
    """Metadata that a new file does not hold."""
    found = [picture.metadata_unread] if picture.metadata_unread else []
    fields = picture.header.get_fields()
    lost = _NOT_KEPT.get(format or picture.format, {})
    return [*found, *(words for field, words in lost.items() if field in fields)]


def _upright(picture: Picture) -> pyvips.Image:
    orientation = vips.number(picture.header, "orientation", 1)
    if orientation == 1:
        return picture.image()
    streamed = picture.pixels is None
    if streamed and (orientation > 2 or picture.pages > 1):
        # Turning needs random access: libvips decodes to a temporary file, not to memory.
        image = vips.load(picture.source, picture.format, picture.pages, access="random")
    else:
        image = picture.image()
    image = shaping.turn_thumbnail(image)
    return image.autorot() if picture.pages == 1 else shaping.turn_pages(image)


def _check_room(picture: Picture) -> None:
    """Raise OSError where the disk has no room for the temporary file of `_upright`."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if picture.pixels is None and free < picture.decoded_bytes:
        raise OSError(errno.ENOSPC, "no room to turn a picture", tempfile.gettempdir())


def _thumbnail(path: Path, width: int) -> pyvips.Image:
    image = vips.open_picture(path, all_pages=False).image()
    image = image.thumbnail_image(width, height=width, size="down", output_profile="srgb")
    image = image.colourspace("srgb")
    # In memory, because the pair is encoded several times and a stream can be read only once.
    return (image.flatten(background=colours.WHITE) if image.hasalpha() else image).copy_memory()


def _size(source: Path) -> int:
    try:
        return source.stat().st_size
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None


def _publish(content: IO[bytes] | Path, target: Path) -> None:
    """Write the target completely or not at all. Raises OSError, Unreadable."""
    try:
        if isinstance(content, Path):
            with vips.opened(content) as original, target.open("wb") as file:
                while chunk := vips.read(original, _COPIED_AT_ONCE):
                    file.write(chunk)
            return
        content.seek(0)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, _COPIED_AT_ONCE)
    except (OSError, Unreadable):
        with suppress(OSError):
            target.unlink(missing_ok=True)
        raise


def _report(
    name: str, target: Path, bytes_in: int, quality: int | None, missed: str | None = None
) -> ImageReport:
    bytes_out = target.stat().st_size
    return ImageReport(
        source=name,
        outcome="missed" if missed else "done",
        output=target.name,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        ratio=bytes_out / max(bytes_in, 1),
        quality=quality,
        reason=missed,
    )


def _with_left_out(
    report: ImageReport, parts: Sequence[str], metadata: Sequence[str]
) -> ImageReport:
    if not parts and not metadata:
        return report
    change: dict[str, object] = {"left_out": [*parts, *metadata]}
    if parts and report.outcome == "done":
        change |= {"outcome": "reduced", "reason": "left out: " + ", ".join(parts)}
    return report.model_copy(update=change)


def not_readable(name: str, reason: str, bytes_in: int = 0) -> ImageReport:
    """The report of a file that cannot be read as a picture."""
    return ImageReport(source=name, outcome="broken", bytes_in=bytes_in, reason=reason)


def _broken(name: str, source: Path, fault: Unreadable) -> ImageReport:
    try:
        bytes_in = _size(source)
    except Unreadable:
        bytes_in = 0
    return not_readable(name, str(fault), bytes_in)
