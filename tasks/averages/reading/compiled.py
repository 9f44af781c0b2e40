"""How loops are compiled: to machine code that holds no interpreter lock, and is kept.

numba keeps it beside the source, and reads it only where it could write it too. A container of ours
cannot write there: it takes what the image was built with along to a folder where it can.
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

_BUILT = Path(__file__).parents[3] / "compiled"  # by the Dockerfile

P = ParamSpec("P")
R = TypeVar("R")


if _BUILT.is_dir():
    _kept = tempfile.mkdtemp(prefix="compiled-")
    shutil.copytree(_BUILT, _kept, dirs_exist_ok=True)
    cast(Any, config).CACHE_DIR = _kept


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function when it is first called."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=True))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function into those that call it."""
    compile = cast(Callable[[Any], Any], njit(nogil=True, cache=True, inline="always"))  # pyright: ignore[reportUnknownArgumentType]
    return cast(Callable[P, R], compile(function))
