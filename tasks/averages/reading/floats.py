"""Numbers of every kind as float64, without losing what float64 can tell apart."""

import numpy as np
from numpy.typing import NDArray

from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import Rules
from tasks.errors import UnreadableInput


def as_floats(raw: NDArray[np.generic], name: str, start: int) -> Floats:
    """The same numbers as float64. Raises UnreadableInput where one is not to be had so."""
    floats = raw.astype(np.float64, copy=False)
    if raw.dtype.kind in "iu" and raw.dtype.itemsize > 4:
        # From there on two integers may become the same float64.
        wrong = np.flatnonzero(np.abs(floats) >= 2.0**53)
        if len(wrong):
            raise UnreadableInput(
                f"{name}: number {start + int(wrong[0]) + 1:,} is {raw[wrong[0]]}, "
                "beyond the integers that float64 can tell apart (2**53): scale the numbers"
            )
    return floats


def checked(numbers: Floats, rules: Rules) -> Floats:
    """The numbers, after a look at them where that is not done while they are added."""
    if rules.refuse or np.isfinite(numbers).all():
        return numbers
    return np.where(np.isfinite(numbers), numbers, np.nan)
