"""Files of exact sums: written for one part, and added to the sums of the other parts.

A file is a line of JSON, then the indices block after block: the number of files without a finite
number at each index, and the components of the exact sum. Adding exact sums exactly gives exact
sums, so the result does not depend on the division into parts.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from tasks.averages.accumulator import Accumulator
from tasks.averages.read_as import ReadAs
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import BLOCK
from tasks.errors import CorruptResult

_DONE = ".done"


class Header(BaseModel, frozen=True):
    """The first line of a file of sums."""

    length: int
    """The number of indices."""
    rows: int
    """Numbers for each index: the missing count, and the components of the sum."""


class Done(BaseModel, frozen=True):
    """The record of a part, written when all its sums are stored."""

    first: str
    """The name of the part's first file, for errors about lengths."""
    files: int
    bytes: int
    length: int
    """Numbers in each file."""
    missing: int = 0
    """Places in the files without a finite number, which were skipped."""
    comments: int = 0
    """Comments in the files, which were skipped."""
    read_as: list[ReadAs] = []
    """Layouts of the files, each with its number of files."""
    rounds: int
    """The number of files of sums, one for each round."""
    seconds: float


def write(accumulator: Accumulator, length: int, path: Path) -> None:
    """Write the sums of the first `length` indices of an accumulator to a file."""
    blocks = accumulator.blocks(length)
    rows = max(len(block) for block in blocks)
    with path.open("wb") as file:
        file.write(Header(length=length, rows=rows).model_dump_json().encode() + b"\n")
        for block in blocks:
            for row in block:
                file.write(row.data)
            for _ in range(rows - len(block)):
                file.write(np.zeros_like(block[0]).data)


def add(accumulator: Accumulator, path: Path, error: Floats) -> int:
    """Add the sums in a file to an accumulator. Returns the number of indices.

    Raises CorruptResult where the file is damaged.
    """
    with path.open("rb") as file:
        try:
            header = Header.model_validate_json(file.readline())
        except ValidationError as invalid:
            raise _damaged(path) from invalid
        for start in range(0, header.length, BLOCK):
            size = min(BLOCK, header.length - start)
            rows = np.fromfile(file, np.float64, size * header.rows)
            if len(rows) != size * header.rows:
                raise _damaged(path)
            missing, *components = rows.reshape(header.rows, size)
            if not accumulator.add_sums(start // BLOCK, missing, components, error):
                raise _damaged(path)
    return header.length


def _damaged(path: Path) -> CorruptResult:
    return CorruptResult(f"the sums in {path} are damaged: run the job again")


def name(part: str, number: int) -> str:
    """The name of a part's file of sums for a round."""
    return f"{part}.{number}"


def name_of_done(part: str) -> str:
    """The name of the file with a part's record, which says that all its sums are stored."""
    return f"{part}{_DONE}"


def done(names: Iterable[str]) -> set[str]:
    """The finished parts among the names of stored files."""
    return {name.removesuffix(_DONE) for name in names if name.endswith(_DONE)}
