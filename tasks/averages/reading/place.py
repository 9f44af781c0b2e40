"""Types and constants of the readers: place in a file, layout, options, rules."""

from collections.abc import Generator
from dataclasses import dataclass, field

from pydantic import BaseModel

from tasks.averages.reading.exact import Floats

# Numbers read and added at a time: a megabyte, which a core's cache nearly holds with its sums.
# With smaller blocks, the interpreter's time for each block costs more than the cache saves.
BLOCK = 131_072
# Numbers whose rounding errors are buffered while they are added: they fit into a core's L1 cache.
ERRORS = 2048

# Cures for a file that has changed, and for a place without a finite number.
LEAVE_ALONE = "leave the files alone until the job has ended, and submit it again"
WRITE_A_NUMBER = 'write a number there, or submit with "not_finite": "skip"'


EVERY_COLUMN = "*"


class Layout(BaseModel, frozen=True):
    """How a file was read. Files with the same layout are counted together."""

    format: str
    """csv (any text), npy or parquet."""
    columns: int
    """Numbers read from each row."""
    column: str | None = None
    """The chosen column; None where all were read."""
    header: int = 0
    """Header lines, which were skipped."""
    index: str | None = None
    """The column left out because it holds the rows' names, as pandas and R write it."""
    delimiter: str | None = None
    decimal: str | None = None
    compression: str | None = None
    encoding: str | None = None
    names: str | None = None
    """A digest of the columns' names, in their order."""
    names_in_any_order: str | None = None
    """A digest of the columns' names, independent of their order."""


@dataclass(frozen=True)
class Place:
    """Where to continue in a file: before the number with index `number`."""

    number: int = 0
    byte: int = 0
    """In text: the first byte not read yet."""
    between: tuple[int, ...] = ()
    """In text: the state of decimals.parse there."""
    layout: Layout | None = None
    """None before the file is opened."""
    comments: int = 0
    """Comments skipped so far: lines, or ends of lines."""


@dataclass(frozen=True)
class Options:
    """What the user says about the files; values of None are detected."""

    header: int | None = None
    """Lines before the first row, without comments."""
    column: str | None = None
    """A name, or a number from 1 on; EVERY_COLUMN for all columns, row after row."""
    delimiter: str | None = None
    """The separating character; a blank stands for any number of blanks."""
    decimal: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Rules:
    """How to read files, and how to treat numbers that are not finite."""

    refuse: bool = True
    """Raise UnreadableInput for a number that is not finite; else it is read as not-a-number."""
    options: Options = field(default_factory=Options)


Blocks = Generator[Floats, None, Place]
"""Yields blocks of numbers, each valid until the next, and returns the place to continue at."""
