"""Reads columns of .npy files with rows: two dimensions, or records with named fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from tasks.averages.reading.columns import choice, find_column, with_names
from tasks.averages.reading.place import EVERY_COLUMN, Layout, Options
from tasks.errors import UnreadableInput


class NpyArray(NamedTuple):
    """The header of an .npy file."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """The number of numbers, or of records."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_row(self) -> bool:
        """Whether the file is one row or column of plain numbers, read in sequence."""
        is_number = self.dtype.kind in "fiu" and self.dtype.itemsize <= 8
        return is_number and sum(n != 1 for n in self.shape) <= 1


@dataclass(frozen=True)
class Table:
    """The wanted columns of a file, read row after row."""

    rows: NDArray[Any]
    """The mapped file: two dimensions, or records."""
    fields: Sequence[str]
    """The fields to read, of records."""
    columns: slice
    """The columns to read, of two dimensions."""
    width: int
    layout: Layout

    @property
    def size(self) -> int:
        """The count of numbers in the wanted columns."""
        return len(self.rows) * self.width

    def numbers(self, start: int, end: int) -> NDArray[np.generic]:
        """The numbers from index `start` up to `end`."""
        first = start // self.width
        rows = self.rows[first : -(-end // self.width)]
        if self.fields:
            kinds = {self.rows.dtype[field] for field in self.fields}
            # Fields of one type keep it, so that integers beyond float64's precision are found.
            kind = kinds.pop() if len(kinds) == 1 else None
            table = np.stack([rows[field].astype(kind or np.float64) for field in self.fields], 1)
        else:
            table = rows[:, self.columns]
        begin = start - first * self.width
        return np.ravel(table)[begin : begin + end - start]


def open_table(path: Path, array: NpyArray, name: str, options: Options) -> Table:
    """Open the wanted columns. Raises UnreadableInput where they do not exist or none is named."""
    names = list(array.dtype.names or ())
    kinds = [array.dtype[each] for each in names] or [array.dtype]
    dimensions = [n for n in array.shape if n != 1] if names else list(array.shape)
    if not names:
        _check(name, array.dtype)
    if len(dimensions) > (1 if names else 2):
        raise UnreadableInput(
            f"{name} has the shape {array.shape}: write one row of numbers a file, or rows"
        )
    wanted, count = options.column, len(names) or (array.shape[1] if len(array.shape) == 2 else 1)
    if wanted is None and len(names) == 1:
        wanted = names[0]
    if wanted is None:
        what = f"the columns {', '.join(names[:5])}" if names else f"the shape {array.shape}"
        raise UnreadableInput(f"{name} has {what}: {choice(names)}")
    if wanted == EVERY_COLUMN:
        first, last = 0, count
    else:
        first = find_column(wanted, names, count, name)
        last = first + 1
    for kind in kinds[first:last]:
        _check(name, kind)
    every = wanted == EVERY_COLUMN
    layout = Layout(
        format="npy",
        columns=last - first,
        column=None if every else wanted,
    )
    layout = with_names(layout, names if every else ())
    rows = _mapped(path, array)
    return Table(rows, names[first:last], slice(first, last), last - first, layout)


def _mapped(path: Path, array: NpyArray) -> NDArray[Any]:
    if not array.size:  # an empty file cannot be mapped
        return np.empty((0, *array.shape[1:]), array.dtype)
    rows = cast(NDArray[Any], np.load(path, mmap_mode="r", allow_pickle=False))
    if array.dtype.names:
        return rows.reshape(-1)
    return rows if rows.ndim == 2 else rows.reshape(-1, 1)


def _check(name: str, kind: np.dtype[Any]) -> None:
    if kind.kind not in "fiu" or kind.itemsize > 8:
        raise UnreadableInput(f"{name} holds {kind}, not numbers: write it as float64")
