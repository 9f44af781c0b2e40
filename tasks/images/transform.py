"""Pictures made smaller, or written in another format: one file in, one file and a report out.

Memory is bounded whatever the size of the input, and every function may be called from several
threads at once. A file that is no good is reported, never raised; a target that cannot be written
is an OSError.
"""

import errno
import shutil
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Literal, NamedTuple

import pyvips
from pydantic import BaseModel, ConfigDict

from tasks.contracts import ImageFormat
from tasks.images import encoders, vips
from tasks.images.encoders import Encoding, Stage
from tasks.images.vips import Picture, Unreadable, VipsError

PREVIEW_BYTES = 30_000
_WHITE = [255.0, 255.0, 255.0]


class ImageReport(BaseModel):
    """What became of one picture."""

    model_config = ConfigDict(frozen=True)

    source: str
    outcome: Literal["done", "missed", "broken"]
    output: str | None
    bytes_in: int
    bytes_out: int | None
    ratio: float | None
    quality: int | None
    reason: str | None


def compress(source: Path, name: str, target: Path, ratio: float) -> ImageReport:
    """Write `source` to `target` in its own format, in at most `ratio` of its bytes.

    It gets the highest quality that fits. Where nothing fits, the smallest encoding found, or the
    original where that is smaller, is written and reported as missed. Raises OSError when `target`
    cannot be written.
    """
    try:
        picture = vips.open_picture(source)
        bytes_in = source.stat().st_size
        budget = max(1, int(ratio * bytes_in))  # the search compares its logarithm
        picture = picture.decode()
        if bytes_in <= budget:
            picture.verify()
            _publish(source, target)
            return _report(name, target, bytes_in, None)
        best = _search(picture, budget, target)
    except Unreadable as fault:
        return _broken(name, source, fault)
    with best.file:
        if best.size >= bytes_in:
            _publish(source, target)
            missed = "no encoding is smaller than the original, which was kept"
            return _report(name, target, bytes_in, None, missed)
        _publish(best.file, target)
    missed = f"best reached is {best.size / bytes_in:.3g} of the input's bytes"
    return _report(name, target, bytes_in, best.quality, missed if best.size > budget else None)


def convert(source: Path, name: str, target: Path, format: ImageFormat) -> ImageReport:
    """Write `source` to `target` as `format`, upright, at that format's default quality.

    The profile is kept where the format can hold its colours, CMYK becomes sRGB, transparency is
    white in a JPEG. Raises OSError when `target` cannot be written.
    """
    try:
        picture = _pages_for(source, format)
        picture = picture.decode()
        encoding = encoders.default_encoding(format, picture)
        try:
            image = _presentable(_upright(picture), format)
            options = {**encoding.options, "keep": encoders.KEEP_ALL}
            encoded = vips.encode(image, format, options, target)
        except VipsError:
            fault = picture.explain(format)
            _check_room(picture)
            raise fault from None
    except Unreadable as fault:
        return _broken(name, source, fault)
    with encoded:
        _publish(encoded, target)
    return _report(name, target, source.stat().st_size, encoding.quality)


def before_and_after(source: Path, result: Path, width: int = 320) -> bytes | None:
    """Both pictures side by side, upright, as a WebP of at most 30 kB; None when one is no picture.

    `width` is the box of each, in pixels; neither is enlarged.
    """
    try:
        left, right = (_thumbnail(path, width) for path in (source, result))
        pair = left.join(right, "horizontal", expand=True, shim=8, background=_WHITE)
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


def _search(picture: Picture, budget: int, target: Path) -> _Encoded:
    """The best encoding that fits, or else the smallest there is."""
    best: _Encoded | None = None

    def measure(stage: Stage, rung: int) -> int:
        nonlocal best
        encoding = stage.encodings[rung]
        file = _encode(picture, stage, encoding, target)
        size = file.seek(0, 2)
        # One that fits is better than all before it: a search rises from what fits.
        if best is None or size <= budget or size < best.size:
            if best is not None:
                best.file.close()
            best = _Encoded(file, size, encoding.quality)
        else:
            file.close()
        return size

    try:
        for stage in encoders.stages(picture, budget):
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
            image = _in_8_bit(image)
        options = {**encoding.options, "keep": keep}
        return vips.encode(image, picture.format, options, target)
    except VipsError:
        raise picture.explain(picture.format) from None


def _pages_for(source: Path, format: ImageFormat) -> Picture:
    """The picture with the pages that `format` is to hold: frames in WebP, pages in TIFF."""
    first = vips.open_picture(source, all_pages=False)
    vips.check_size(first, format)
    pages = vips.number(first.header, "n-pages", 1)
    upright = vips.number(first.header, "orientation", 1) == 1
    animated = format == "webp" and first.format in ("gif", "webp")
    if pages == 1 or not upright or not (animated or format == first.format == "tiff"):
        return first
    if animated and first.decoded_bytes * pages > vips.DECODED_BY_WHOLE_CODER:
        return first
    return vips.open_picture(source)


def _upright(picture: Picture) -> pyvips.Image:
    streamed = picture.pixels is None
    if streamed and vips.number(picture.header, "orientation", 1) > 2:
        # Turning needs lines out of order: libvips unpacks into a temporary file, not memory.
        return vips.load(picture.source, picture.format, access="random").autorot()
    image = picture.image()
    return image if picture.pages > 1 else image.autorot()


def _check_room(picture: Picture) -> None:
    """Raise OSError if the temporary file of `_upright` is what failed."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if picture.pixels is None and free < picture.decoded_bytes:
        raise OSError(errno.ENOSPC, "no room to turn a picture", tempfile.gettempdir())


def _presentable(image: pyvips.Image, format: ImageFormat) -> pyvips.Image:
    """The image in the colours and depth that every viewer of `format` shows alike."""
    if image.interpretation == "cmyk":
        # libvips has a generic CMYK profile of its own, for files without one.
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk")
    if format == "tiff":
        return image
    if image.interpretation not in ("srgb", "rgb16", "b-w", "grey16"):
        if image.interpretation not in ("scrgb", "lab", "labs", "labq", "lch", "hsv", "xyz"):
            raise Unreadable(f"{image.interpretation} pixels cannot be shown as {format.upper()}")
        image = image.colourspace("srgb")
    if image.format != "uchar" and not (format == "png" and image.format == "ushort"):
        image = _in_8_bit(image)
    if format == "jpeg" and image.hasalpha():
        image = image.flatten(background=_WHITE[: image.bands - 1])
    return image


def _in_8_bit(image: pyvips.Image) -> pyvips.Image:
    return image.colourspace("srgb" if image.bands > 2 else "b-w").cast("uchar")


def _thumbnail(path: Path, width: int) -> pyvips.Image:
    image = vips.open_picture(path, all_pages=False).image()
    image = image.thumbnail_image(width, height=width, size="down", output_profile="srgb")
    image = image.colourspace("srgb")
    # In memory, because the pair is encoded several times and a stream is read only once.
    return (image.flatten(background=_WHITE) if image.hasalpha() else image).copy_memory()


def _publish(content: IO[bytes] | Path, target: Path) -> None:
    """Write the target, whole or not at all. Raises OSError."""
    try:
        if isinstance(content, Path):
            shutil.copyfile(content, target)
            return
        content.seek(0)
        with target.open("wb") as file:
            shutil.copyfileobj(content, file, 1024 * 1024)
    except OSError:
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
        ratio=bytes_out / bytes_in,
        quality=quality,
        reason=missed,
    )


def _broken(name: str, source: Path, fault: Unreadable) -> ImageReport:
    return ImageReport(
        source=name,
        outcome="broken",
        output=None,
        bytes_in=source.stat().st_size if source.exists() else 0,
        bytes_out=None,
        ratio=None,
        quality=None,
        reason=str(fault),
    )
