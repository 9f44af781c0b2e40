"""Readers of npy, Parquet and text files: a block of numbers at a time, from any place on.

A file is read from beginning to end, in one or several rounds; a Place says where the next round
continues. Memory holds a block of numbers and a piece of the file, whatever the file's size.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.averages.reading import text
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.floats import as_floats, checked
from tasks.averages.reading.npy_tables import NpyArray, open_table
from tasks.averages.reading.parquet_columns import choose_columns, parquet_blocks
from tasks.averages.reading.place import BLOCK, ERRORS, LEAVE_ALONE, Blocks, Layout, Place, Rules
from tasks.errors import UnreadableInput

_NPY_VERSIONS = {(1, 0), (2, 0), (3, 0)}
_COMPRESSED = frozenset({".gz", ".bz2", ".xz", ".zst", ".lz4"})


def reader(name: str) -> Callable[[Path, str, Place, int, Rules, "Buffers"], Blocks]:
    """The reader for a file's name. Raises UnreadableInput where there is none."""
    kind = _kind(name)
    if kind not in _READERS:
        known = ", ".join(sorted(_READERS))
        if PurePosixPath(kind).suffix in _COMPRESSED:
            raise UnreadableInput(f"{name} is compressed, and no text: decompress it")
        raise UnreadableInput(f"{name} is no file of numbers: name files that end in {known}")
    return _READERS[kind]


def _kind(name: str) -> str:
    """A file name's suffix in lower case; without that of the compression for text."""
    path = PurePosixPath(name.lower())
    if path.suffix in _COMPRESSED:
        inside = PurePosixPath(path.stem).suffix
        return inside if _READERS.get(inside) is _read_text else inside + path.suffix
    return path.suffix


def abreast(name: str) -> int:
    """How many files of this kind one thread reads at a time, a block of each in turn.

    Sums are then fetched from memory once for all files, and threads start less often: on two cores
    of an AMD EPYC 40 npy files take 58 ms in two groups, and 61 ms in groups of 8. Text and Parquet
    files spend nearly all time on reading, and each holds a piece of the file in memory.
    """
    return _ABREAST.get(_kind(name), 1)


@dataclass(frozen=True)
class Buffers:
    """The buffers with which one thread reads and adds, reused for every block."""

    numbers: Floats = field(default_factory=lambda: np.empty(BLOCK))
    error: Floats = field(default_factory=lambda: np.empty(ERRORS))
    piece: NDArray[np.uint8] = field(default_factory=lambda: np.empty(text.PIECE, np.uint8))


def _read_npy(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    with path.open("rb", buffering=0) as file:
        array = _npy_header(file, name)
        if array.dtype.hasobject:  # pickled: its size is not that of numbers
            raise UnreadableInput(f"{name} holds Python objects, not numbers: write it as float64")
        begin, there = file.tell(), path.stat().st_size
        promised = begin + array.size * array.dtype.itemsize
        if there != promised:
            raise UnreadableInput(
                f"{name} has {there:,} bytes where its header promises {promised:,}: "
                "it is cut off, or damaged; write it again"
            )
        if array.is_row and not rules.options.column:
            layout = Layout(format="npy", columns=1)
            return (
                yield from _read_row(file, begin, array, layout, name, place, most, rules, buffers)
            )
    table = open_table(path, array, name, rules.options)
    stop = min(table.size, place.number + most)
    while place.number < stop:
        raw = table.numbers(place.number, min(stop, place.number + BLOCK))
        yield checked(as_floats(raw, name, place.number), rules)
        place = Place(place.number + len(raw), layout=table.layout)
    return Place(place.number, layout=table.layout)


def _read_row(
    file: FileIO, begin: int, array: NpyArray, layout: Layout, name: str, place: Place, most: int,
    rules: Rules, buffers: Buffers,
) -> Blocks:  # fmt: skip
    """Read numbers in sequence, without a copy where they are little-endian float64."""
    dtype, number = array.dtype, place.number
    file.seek(begin + number * dtype.itemsize)
    stop = min(array.size, number + most)
    direct = dtype == np.dtype("<f8")
    while number < stop:
        count = min(BLOCK, stop - number)
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
            numbers = as_floats(raw, name, number)
        yield checked(numbers, rules)
        number += count
    return Place(number, layout=layout)


def _npy_header(file: FileIO, name: str) -> NpyArray:
    """Read the header of an .npy file; the file is then at the first number."""
    formats = np.lib.format
    try:
        version = formats.read_magic(file)  # pyright: ignore[reportArgumentType]
        if version not in _NPY_VERSIONS:
            raise UnreadableInput(
                f"{name} is written in version {version[0]}.{version[1]} of npy, and 1.0 to 3.0 "
                "are read: write it again with numpy.save"
            )
        if version == (3, 0):  # numpy has no function for this version with an open file
            found = formats.open_memmap(file.name, mode="r")
            file.seek(found.offset)
            return NpyArray(found.shape, not found.flags.c_contiguous, found.dtype)
        read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
        return NpyArray(*read(file))  # pyright: ignore[reportArgumentType]
    except (ValueError, EOFError, SyntaxError) as error:
        raise _damaged(name, "npy", error) from error


def _read_parquet(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    try:
        # Checksums are compared where the file has them; Spark writes them.
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            columns = choose_columns(file, name, rules.options)
            yield from parquet_blocks(file, columns, name, place, most, rules)
            stop = min(file.metadata.num_rows * len(columns.names), place.number + most)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise _damaged(name, "Parquet", error) from error
    return Place(stop, layout=columns.layout)


def _damaged(name: str, kind: str, error: Exception) -> UnreadableInput:
    lines = str(error).strip().splitlines()
    return UnreadableInput(
        f"{name} is not readable as {kind}: {lines[0] if lines else type(error).__name__}: "
        "it is cut off, or damaged; write it again"
    )


def _read_text(
    path: Path, name: str, place: Place, most: int, rules: Rules, buffers: Buffers
) -> Blocks:
    return (yield from text.read(path, name, place, most, rules, buffers.numbers, buffers.piece))


_READERS = {
    ".csv": _read_text,
    ".dat": _read_text,
    ".tsv": _read_text,
    ".txt": _read_text,
    ".npy": _read_npy,
    ".parquet": _read_parquet,
}
_ABREAST = {".npy": 32}
