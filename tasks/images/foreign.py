"""A kind of TIFF that libvips cannot open, decoded by Pillow instead."""

from pathlib import Path

import numpy as np
import pyvips

from tasks.images.signatures import Unreadable
from tasks.images.tiff import Directory

_ORIENTATION = 274


def open_tiff(source: Path, first: Directory, most: int) -> pyvips.Image | None:
    """The first page in memory where it is of LAB in 8 bits, or else None. Raises Unreadable.

    Its pixels are floats of L, a and b. `most` is the largest picture that is decoded, in decoded
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
    # Pillow has no error of its own for a file that it cannot decode.
    except (OSError, ValueError, SyntaxError, EOFError, KeyError, TypeError, MemoryError):
        raise Unreadable("TIFF in LAB colours that is damaged, or compressed unusually") from None
    if not is_lab:
        raise Unreadable("TIFF in LAB colours with further channels is not supported")
    lab[..., 0] *= 100 / 255
    lab[..., 1:] -= 256 * (lab[..., 1:] > 127)  # signed
    pixels = pyvips.Image.new_from_array(lab, interpretation="lab")
    pixels.set_type(pyvips.GValue.gint_type, "orientation", int(orientation))
    return pixels
