"""Compiles loops with numba: without the interpreter lock, and cached on disk.

numba caches machine code beside the source, and reads the cache only where it can also write it.
A job's container cannot write there, so the image's cache is copied to a temporary folder.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from numba import (  # pyright: ignore[reportMissingTypeStubs]
    config,  # pyright: ignore[reportUnknownVariableType]
    njit,  # pyright: ignore[reportUnknownVariableType]
)

_BUILT = Path(__file__).parents[3] / "compiled"  # the cache that the Dockerfile makes

P = ParamSpec("P")
R = TypeVar("R")


if _BUILT.is_dir():
    _kept = tempfile.mkdtemp(prefix="compiled-")
    shutil.copytree(_BUILT, _kept, dirs_exist_ok=True)
    cast(Any, config).CACHE_DIR = _kept


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compile a function when it is first called."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=True))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compile a function inline into its callers."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=True, inline="always"))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))
