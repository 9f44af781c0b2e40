"""Decodes TIFF in LAB colours, which libvips cannot open, with Pillow."""

from pathlib import Path

import numpy as np
import pyvips

from tasks.images.signatures import Unreadable
from tasks.images.tiff import Directory

_ORIENTATION = 274


def open_tiff(source: Path, first: Directory, most: int) -> pyvips.Image | None:
    """Decode the first page where it is LAB of 8 bits; else return None. Raises Unreadable.

    The pixels are floats of L, a and b, in memory. `most` limits the picture's size in decoded
    bytes.
    """
    if not first.is_lab_of_8_bit:
        return None
    if first.width * first.height * 12 > most:
        raise Unreadable(f"{first.size} pixels are too many for TIFF in LAB colours")
    from PIL import Image

    try:
        with Image.open(source, formats=["TIFF"]) as image:
            lab = np.asarray(image).astype(np.float32)
            is_lab = image.mode == "LAB"
            orientation = image.getexif().get(_ORIENTATION, 1)
    # Pillow has no single exception for a file that it cannot decode.
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, MemoryError):
        raise Unreadable("TIFF in LAB colours that is damaged, or compressed unusually") from None
    if not is_lab:
        raise Unreadable("TIFF in LAB colours with further channels is not supported")
    lab[..., 0] *= 100 / 255
    lab[..., 1:] -= 256 * (lab[..., 1:] > 127)  # signed
    pixels = pyvips.Image.new_from_array(lab, interpretation="lab")
    pixels.set_type(pyvips.GValue.gint_type, "orientation", int(orientation))
    return pixels
