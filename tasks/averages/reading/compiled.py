"""Compiles loops with numba: without the interpreter lock, and cached on disk.

numba reads its cache of machine code only where it can also write it. A job's container cannot, so
the image's cache is copied to a temporary folder. Where nothing can be written, each job compiles.
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

from tasks.storage.machine_code import FOLDER

_BUILT = Path(__file__).parents[3] / "compiled"  # the cache that the Dockerfile makes

P = ParamSpec("P")
R = TypeVar("R")


def _keep() -> bool:
    """Choose where machine code is kept. Returns False where nothing can be written."""
    numba = cast(Any, config)
    if _BUILT.is_dir():
        numba.CACHE_DIR = tempfile.mkdtemp(prefix="compiled-")
        shutil.copytree(_BUILT, numba.CACHE_DIR, dirs_exist_ok=True)
    numba.CACHE_DIR = numba.CACHE_DIR or str(FOLDER)
    try:
        Path(numba.CACHE_DIR).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=numba.CACHE_DIR):
            return True
    except OSError:
        return False


_IS_KEPT = _keep()


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compile a function when it is first called."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=_IS_KEPT))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compile a function inline into its callers."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=_IS_KEPT, inline="always"))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))
