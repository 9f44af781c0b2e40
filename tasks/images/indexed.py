"""Writes PNG with an exact palette; libvips would choose new colours."""

import struct
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyvips
from numpy.typing import NDArray

from tasks.images import vips

_MOST = 256
_ROWS_AT_ONCE = 64
_PROFILE = "icc-profile-data"


@dataclass(frozen=True)
class Palette:
    """The colours of a picture that has at most 256."""

    colours: NDArray[np.uint32]
    """Sorted; the bytes of each are red, green, blue and alpha."""

    @property
    def bits(self) -> int:
        """Bits of an index."""
        return next(bits for bits in (1, 2, 4, 8) if 2**bits >= len(self.colours))

    @property
    def options(self) -> Mapping[str, object]:
        """Options of libvips' saver for the indices."""
        return {"compression": 9, "filter": "none", "bitdepth": self.bits}

    def index(self, pixels: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """The indices of pixels' colours in the palette."""
        return np.searchsorted(self.colours, pixels).astype(np.uint8)


def palette_of(image: pyvips.Image) -> Palette | None:
    """The palette of a picture in memory; None where it has over 256 colours, or is not sRGB."""
    if image.format != "uchar" or image.interpretation != "srgb" or image.bands not in (3, 4):
        return None
    colours = np.empty(0, np.uint32)
    for top in range(0, image.height, _ROWS_AT_ONCE):
        strip = image.crop(0, top, image.width, min(_ROWS_AT_ONCE, image.height - top))
        colours = np.union1d(colours, np.unique(_packed(strip)))
        if len(colours) > _MOST:
            return None
    return Palette(colours)


def encode(
    image: pyvips.Image, palette: Palette, options: Mapping[str, object], beside: Path
) -> IO[bytes]:
    """Encode a picture as an indexed PNG, with the metadata that libvips writes.

    libvips writes the indices as shades of grey; then the header is changed to that of a palette.
    Raises as `vips.encode`.
    """
    # libvips writes the lowest bits of a shade, and an index has only these.
    indices = palette.index(_packed(image))
    grey = pyvips.Image.new_from_memory(
        indices.tobytes(), image.width, image.height, 1, "uchar"
    ).copy(interpretation="b-w", xres=image.xres, yres=image.yres)
    for field in image.get_fields():
        # libvips refuses to write a colour profile into a grey picture.
        if field.startswith(("exif-", "xmp-", "png-comment", "orientation")):
            grey.set_type(image.get_typeof(field), field, image.get(field))
    with vips.encode(grey, "png", options, beside) as file:
        file.seek(0)
        written = file.read()
    result = tempfile.SpooledTemporaryFile(vips.ENCODED_IN_MEMORY, dir=str(beside.parent))  # noqa: SIM115 - the caller closes it
    try:
        result.write(_with_palette(written, palette, vips.metadata(image, _PROFILE)))
    except BaseException:
        result.close()
        raise
    return result


def _packed(image: pyvips.Image) -> NDArray[np.uint32]:
    if image.bands == 3:
        image = image.bandjoin(255)
    return np.frombuffer(image.write_to_memory(), np.uint32)


def _with_palette(grey: bytes, palette: Palette, profile: object) -> bytes:
    rgba = palette.colours.view(np.uint8).reshape(-1, 4)
    header = bytearray(grey[16:29])
    header[9] = 3  # the colour type
    chunks = [grey[:8], _chunk(b"IHDR", bytes(header))]
    if isinstance(profile, bytes):
        chunks.append(_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile, 9)))
    # Chunks allowed before a palette, such as the resolution, are allowed behind it too.
    chunks.append(_chunk(b"PLTE", rgba[:, :3].tobytes()))
    if rgba[:, 3].min() < 255:
        chunks.append(_chunk(b"tRNS", rgba[:, 3].tobytes()))
    return b"".join([*chunks, grey[33:]])


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
