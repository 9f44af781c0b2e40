"""The exact sums of some of the files, kept in a file, and added to those of the others.

A line of JSON, and then block after block of indices: how many files have no finite number at each
index, and the components of the exact sum. Whatever is added to a sum exactly leaves it exact, so
the whole is the same in whichever parts it was made.
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
    """Of a file of sums."""

    length: int
    """Indices."""
    rows: int
    """For each: one for the missing, and one for each component."""


class Done(BaseModel, frozen=True):
    """What is said of a part when all of its sums are there."""

    first: str
    """The name of its first file, for whoever compares lengths."""
    files: int
    bytes: int
    length: int
    """Numbers in each of the files."""
    missing: int = 0
    """Places in them without a finite number, that were skipped."""
    comments: int = 0
    """Lines in them that were passed over."""
    read_as: list[ReadAs] = []
    """How they were read."""
    rounds: int
    """Files of sums, one for each round."""
    seconds: float


def write(accumulator: Accumulator, length: int, path: Path) -> None:
    """Keep the sums of the first `length` indices of an accumulator."""
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
    """Add the sums that are kept in a file. Returns how many indices they were.

    Raises CorruptResult where the file is not what was written.
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
    return CorruptResult(f"{path} is not the sums that were written: run the job again")


def name(part: str, number: int) -> str:
    """What the sums of a round are called."""
    return f"{part}.{number}"


def name_of_done(part: str) -> str:
    """What the file is called that says that all sums of a part are there."""
    return f"{part}{_DONE}"


def done(names: Iterable[str]) -> set[str]:
    """The parts of which all is there, by what stands in a folder."""
    return {name.removesuffix(_DONE) for name in names if name.endswith(_DONE)}
