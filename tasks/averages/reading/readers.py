"""Numbers out of a file, a block at a time and from any place on: npy, Parquet and CSV.

A file is read from front to back, in one go or in several; a Place says where the next one goes
on. Memory is a block of numbers and a piece of the file, whatever the file's size.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.averages.reading import text
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import (
    BLOCK,
    ERRORS,
    LEAVE_ALONE,
    WRITE_A_NUMBER,
    Blocks,
    Place,
    Rules,
)
from tasks.errors import UnreadableInput

_NPY_VERSIONS = {(1, 0), (2, 0)}


def reader(name: str) -> Callable[[Path, str, Place, int, Rules, "Buffers"], Blocks]:
    """The reader of a file of that name. Raises UnreadableInput where there is none."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise UnreadableInput(f"{name} is no file of numbers: name files that end in {known}")
    return _READERS[suffix]


def abreast(name: str) -> int:
    """How many files of that kind one thread reads at a time, a block of each in turn.

    Sums are then fetched from memory once for all, and threads are started less often: on two cores
    of an AMD EPYC 40 files of npy take 58 ms in two groups, and 61 in groups of 8. Text and Parquet
    are nearly all reading, and hold a piece of the file meanwhile.
    """
    return _ABREAST.get(PurePosixPath(name).suffix.lower(), 1)


@dataclass(frozen=True)
class Buffers:
    """What one thread reads and adds with, used again for every block."""

    numbers: Floats = field(default_factory=lambda: np.empty(BLOCK))
    error: Floats = field(default_factory=lambda: np.empty(ERRORS))
    piece: NDArray[np.uint8] = field(default_factory=lambda: np.empty(text.PIECE, np.uint8))


def _read_npy(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    with path.open("rb", buffering=0) as file:
        dtype, size = _npy_header(file, name)
        begin = file.tell()
        promised, there = begin + size * dtype.itemsize, path.stat().st_size
        if there != promised:
            raise UnreadableInput(
                f"{name} has {there:,} bytes where its header promises {promised:,}: "
                "it is cut off, or damaged; write it again"
            )
        file.seek(begin + place.number * dtype.itemsize)
        stop = min(size, place.number + most)
        direct = dtype == np.dtype("<f8")
        while place.number < stop:
            count = min(BLOCK, stop - place.number)
            raw = np.empty(0 if direct else count, dtype)
            numbers = buffers.numbers[:count]
            view = memoryview(numbers if direct else raw).cast("B")  # pyright: ignore[reportArgumentType]
            done = 0
            while done < len(view):
                got = file.readinto(view[done:])
                if not got:
                    raise UnreadableInput(f"{name} has changed while it was read: {LEAVE_ALONE}")
                done += got
            if not direct:
                numbers = _as_floats(raw, name, place.number)
            yield _checked(numbers, rules)
            place = Place(place.number + count)
    return place


def _npy_header(file: FileIO, name: str) -> tuple[np.dtype[np.generic], int]:
    """The type and the number of the numbers in an .npy file, which is left at the first."""
    formats = np.lib.format
    try:
        version = formats.read_magic(file)  # pyright: ignore[reportArgumentType]
        if version not in _NPY_VERSIONS:
            raise ValueError(f"version {version} of the format")
        read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
        shape, _, dtype = read(file)  # pyright: ignore[reportArgumentType]
    except (ValueError, EOFError, SyntaxError) as error:
        raise _damaged(name, "npy", error) from error
    size = int(np.prod(shape, dtype=np.int64))
    if sum(n != 1 for n in shape) > 1:
        raise UnreadableInput(f"{name} has the shape {shape}: write one row of numbers a file")
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise UnreadableInput(f"{name} holds {dtype}, not numbers: write it as float64")
    return dtype, size


def _read_parquet(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            yield from _parquet_blocks(file, name, place, most, rules)
            stop = min(file.metadata.num_rows, place.number + most)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _damaged(name, "Parquet", error) from error
    return Place(stop)


def _parquet_blocks(
    file: pq.ParquetFile, name: str, place: Place, most: int, rules: Rules
) -> Generator[Floats]:
    if file.metadata.num_columns != 1:
        columns = ", ".join(file.schema_arrow.names[:5])
        raise UnreadableInput(
            f"{name} has {file.metadata.num_columns} columns ({columns}): write one column"
        )
    kind = file.schema_arrow.types[0]
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise UnreadableInput(f"{name} holds {kind}, not numbers: write it as float64")
    begin, groups = 0, list[int]()
    first = 0  # number of the first row in the first of the groups
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if begin + rows > place.number and begin < place.number + most:
            if not groups:
                first = begin
            groups.append(group)
        begin += rows
    at, stop = first, place.number + most
    if not groups:
        return
    batches = cast(Any, file).iter_batches(BLOCK, row_groups=groups, use_threads=False)
    for batch in batches:
        low, high = max(place.number - at, 0), min(stop - at, len(batch))
        if low < high:
            column = batch.column(0)[low:high]
            if column.null_count and rules.refuse:
                index = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
                raise UnreadableInput(
                    f"{name}: row {at + low + index + 1:,} is null: {WRITE_A_NUMBER}"
                )
            raw = column.to_numpy(zero_copy_only=False)
            yield _checked(_as_floats(raw, name, at + low), rules)
        at += len(batch)


def _as_floats(raw: NDArray[np.generic], name: str, start: int) -> Floats:
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


def _checked(numbers: Floats, rules: Rules) -> Floats:
    """The numbers, after a look at them where that is not done while they are added."""
    if rules.refuse or np.isfinite(numbers).all():
        return numbers
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _damaged(name: str, kind: str, error: Exception) -> UnreadableInput:
    told = str(error).strip().splitlines()
    return UnreadableInput(
        f"{name} is not readable as {kind}: {told[0] if told else type(error).__name__}: "
        "it is cut off, or damaged; write it again"
    )


def _read_text(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    return (yield from text.read(path, name, place, most, rules, buffers.numbers, buffers.piece))


_READERS = {
    ".csv": _read_text,
    ".txt": _read_text,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
_ABREAST = {".npy": 32}
