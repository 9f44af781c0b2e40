"""Converts numbers of any type to float64, and refuses integers beyond its precision."""

import numpy as np
from numpy.typing import NDArray

from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import Rules
from tasks.errors import UnreadableInput


def as_floats(raw: NDArray[np.generic], name: str, start: int) -> Floats:
    """Convert to float64. Raises UnreadableInput for an integer of size 2**53 or more."""
    floats = raw.astype(np.float64, copy=False)
    if raw.dtype.kind in "iu" and raw.dtype.itemsize > 4:
        # From 2**53 on, two integers may become the same float64.
        wrong = np.flatnonzero(np.abs(floats) >= 2.0**53)
        if len(wrong):
            raise UnreadableInput(
                f"{name}: number {start + int(wrong[0]) + 1:,} is {raw[wrong[0]]}, "
                "beyond the integers that float64 can tell apart (2**53): scale the numbers"
            )
    return floats


def checked(numbers: Floats, rules: Rules) -> Floats:
    """Replace numbers that are not finite by not-a-number, unless the rules refuse them.

    Refused numbers are found while they are added.
    """
    if rules.refuse or np.isfinite(numbers).all():
        return numbers
    return np.where(np.isfinite(numbers), numbers, np.nan)
