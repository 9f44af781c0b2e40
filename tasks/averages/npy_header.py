"""Writes the header of an npy file of float64."""

from typing import BinaryIO

import numpy as np


def write_npy_header(file: BinaryIO, count: int) -> None:
    """Write the header for `count` float64. Its size fits any count, so it can be rewritten."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
