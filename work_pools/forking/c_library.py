"""Functions of the C library that Python has no module for."""

import ctypes
import os
from typing import Any

_LIBRARY: Any = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: Any) -> int:
    """Call a function, numbers as C's long. Raises OSError where it returns a negative number."""
    plain = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    answer = int(getattr(_LIBRARY, name)(*plain))
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
