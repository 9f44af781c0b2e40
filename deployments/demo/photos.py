"""Generates photographs for the demo: mixed sizes and formats, and two broken files."""

from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray

_SIZES = [(1600, 1200), (2400, 1600), (1200, 1800), (3000, 2000)]
_SUFFIXES = [".jpg", ".jpg", ".jpg", ".webp", ".png", ".tif"]


def make_photos(folder: Path, count: int, seed: int = 20, *, broken: bool = True) -> None:
    """Write `count` pictures into `folder`; with `broken`, also two files that are no pictures.

    These are a truncated JPEG and a text file named .jpg.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        width, height = _SIZES[index % len(_SIZES)]
        path = folder / f"photo-{index:03}{_SUFFIXES[index % len(_SUFFIXES)]}"
        picture = pyvips.Image.new_from_array(landscape(width, height, rng), interpretation="srgb")
        picture.write_to_file(str(path))
    if not broken:
        return
    whole = (folder / "photo-000.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.jpg").write_text("This is no picture.\n")


def landscape(width: int, height: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """An image with the statistics of a photograph: smooth light, texture at every scale, grain.

    Sums noise over octaves, with amplitudes that fall as the frequency rises (a 1/f spectrum, as
    natural images have: Field 1987). Shape (height, width, 3), 8 bits per channel.
    """
    picture = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 8):
        cells = 2**octave
        coarse = rng.random((cells + 1, cells + 1, 3), np.float32)
        picture += _enlarged(coarse, height, width) / np.float32(1.6**octave)
    picture += rng.normal(0, 0.012, picture.shape).astype(np.float32)
    low, high = np.quantile(picture[::16, ::16], [0.02, 0.98])
    return (np.clip((picture - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _enlarged(coarse: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """A coarse grid enlarged to the size of the picture by bilinear interpolation."""
    for axis, size in ((0, height), (1, width)):
        at = np.linspace(0, coarse.shape[axis] - 1.001, size, dtype=np.float32)
        below = at.astype(np.intp)
        share = (at - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
        first = np.take(coarse, below, axis)
        coarse = (first + (np.take(coarse, below + 1, axis) - first) * share).astype(np.float32)
    return coarse
