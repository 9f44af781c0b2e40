"""Adoption of processes whose parent has ended."""

import ctypes
import os
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """Make this process the parent of every descendant whose own parent ends (a subreaper).

    Forks do not inherit this. Raises OSError where the kernel refuses.
    """
    library: Any = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
