"""Reads HEIC with pi-heif: libheif with the HEVC decoder that libvips lacks.

There is no encoder, because the usual one is GPL. For licences see docs/tasks/images.md.
"""

import io
from pathlib import Path
from typing import Any

import pyvips

from tasks.images.signatures import Unreadable

# The whole file is read into memory. A photo of 48 megapixels has some 20 MB.
MAX_FILE = 256 * 2**20
_BANDS = {"L": 1, "LA": 2, "La": 2, "RGB": 3, "RGBA": 4, "RGBa": 4}
_FULL = 65_535


def open_heic(source: Path, most: int) -> pyvips.Image:
    """Decode the primary picture of a HEIC file, upright, in memory. Raises Unreadable.

    `most` limits the picture's size in decoded bytes.
    """
    # Imported here, because it imports Pillow. It has no type stubs.
    from pi_heif import (  # pyright: ignore[reportMissingTypeStubs]
        open_heif,  # pyright: ignore[reportUnknownVariableType]
    )

    try:
        if source.stat().st_size > MAX_FILE:
            raise Unreadable(f"a HEIC file of more than {MAX_FILE >> 20} MiB is not read")
        file: Any = open_heif(source, convert_hdr_to_8bit=False)
        image = file[file.primary_index]
        width, height = image.size
        mode, _, deep = image.mode.partition(";")
        item = 2 if deep else 1
        if width * height * _BANDS[mode] * item > most:
            raise Unreadable(f"{width} x {height} pixels are too many for HEIC")
        pixels = _pixels(bytes(image.data), image.stride, width, height, _BANDS[mode], item)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror or 'damaged HEIC'}") from None
    # Exceptions for libheif's errors; their texts name its functions, so they are not shown.
    except (ValueError, RuntimeError, SyntaxError, EOFError, IndexError, MemoryError):
        raise Unreadable("truncated or damaged HEIC") from None
    colour = _BANDS[mode] > 2
    deep_name, name = ("rgb16", "srgb") if colour else ("grey16", "b-w")
    pixels = pixels.copy(interpretation=deep_name if deep else name)
    if mode[-1] == "a":
        pixels = pixels.unpremultiply(max_alpha=_FULL if deep else 255).cast(pixels.format)
    if deep:
        # The samples are in the upper bits: white of 10 bits is 65,472 before scaling.
        white = _FULL - (1 << (16 - image.info["bit_depth"])) + 1
        pixels = (pixels * (_FULL / white)).rint().cast("ushort", shift=False)
        pixels = pixels.copy(interpretation=deep_name)
    pixels = pixels.copy_memory()
    _attach(pixels, image.info, len(file))
    return pixels


def _pixels(
    data: bytes, stride: int, width: int, height: int, bands: int, item: int
) -> pyvips.Image:
    # As one band of the whole stride: the padding is cropped, then samples are regrouped in bands.
    format = "ushort" if item == 2 else "uchar"
    samples = stride // item
    lines = pyvips.Image.new_from_memory(data, samples, height, 1, format)
    if samples != width * bands:
        data = lines.crop(0, 0, width * bands, height).write_to_memory()
    return pyvips.Image.new_from_memory(data, width, height, bands, format)


def _attach(pixels: pyvips.Image, info: dict[str, Any], pictures: int) -> None:
    """Set profile and metadata in the same way as libvips' loaders."""
    if info.get("icc_profile"):
        pixels.set_type(pyvips.GValue.blob_type, "icc-profile-data", info["icc_profile"])
    if info.get("xmp"):
        pixels.set_type(pyvips.GValue.blob_type, "xmp-data", info["xmp"])
    if info.get("exif"):
        _attach_exif(pixels, info["exif"])
    pixels.set_type(pyvips.GValue.gint_type, "n-pages", pictures)
    pixels.set_type(pyvips.GValue.gint_type, "bits-per-sample", info["bit_depth"])
    # libheif has turned the picture by the file's boxes, which override EXIF's orientation.
    pixels.set_type(pyvips.GValue.gint_type, "orientation", 1)


def _attach_exif(pixels: pyvips.Image, exif: bytes) -> None:
    from PIL import Image

    # libvips reads EXIF only from a file: it is passed in a JPEG of one pixel.
    carrier = io.BytesIO()
    try:
        Image.new("L", (1, 1)).save(carrier, "JPEG", exif=exif)
        read = pyvips.Image.jpegload_buffer(carrier.getvalue())
    except (ValueError, pyvips.Error):  # too large for a JPEG: reported as metadata left out
        pixels.set_type(pyvips.GValue.gint_type, "exif-left-out", 1)
        return
    for field in read.get_fields():
        if field.startswith("exif-") or field == "jpeg-thumbnail-data":
            pixels.set_type(read.get_typeof(field), field, read.get(field))
