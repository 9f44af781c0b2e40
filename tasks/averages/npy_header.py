"""The header of an npy file of float64."""

from typing import BinaryIO

import numpy as np


def write_npy_header(file: BinaryIO, count: int) -> None:
    """Begin a file of so many float64. There is room for any count: it can be written again."""
    header = {"descr": "<f8", "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)
