"""What readers and their users agree on: how far a file was read, how, and what is refused."""

from collections.abc import Generator
from dataclasses import dataclass, field

from pydantic import BaseModel

from tasks.averages.reading.exact import Floats

# Numbers read and added at a time: a megabyte, which a core's cache nearly holds with its sums. Of
# less, the interpreter's part in each block is more than that saves.
BLOCK = 131_072
# Numbers whose rounding errors are kept while they are added: they stay in a core's nearest cache.
ERRORS = 2048

# What to do about a file that is not what it was, and about what is no finite number.
LEAVE_ALONE = "leave the files alone until the job has ended, and submit it again"
WRITE_A_NUMBER = 'write a number there, or submit with "not_finite": "skip"'


EVERY_COLUMN = "*"


class Layout(BaseModel, frozen=True):
    """How a file was read. Files of the same layout are counted together."""

    format: str
    """csv (any text), npy or parquet."""
    columns: int
    """Numbers that each row has given."""
    column: str | None = None
    """The column that was chosen; None where all were read."""
    header: int = 0
    """Lines of names that were passed over."""
    index: str | None = None
    """The column that was left out as the rows' names, as pandas and R write it."""
    delimiter: str | None = None
    decimal: str | None = None
    compression: str | None = None
    encoding: str | None = None
    names: str | None = None
    """A digest of the columns' names, in their order."""
    names_in_any_order: str | None = None
    """The same whatever their order."""


@dataclass(frozen=True)
class Place:
    """Where to read on in a file: before its number `number`."""

    number: int = 0
    byte: int = 0
    """Of text: the first byte that is not read."""
    between: tuple[int, ...] = ()
    """Of text: the state of decimals.parse there."""
    layout: Layout | None = None
    """None before the file was opened."""
    comments: int = 0
    """Lines, or ends of lines, that were passed over as comments."""


@dataclass(frozen=True)
class Options:
    """What the user says of the files; what is None is found out."""

    header: int | None = None
    """Lines before the first row, comments aside."""
    column: str | None = None
    """A name, or a number from 1 on; EVERY_COLUMN for all, row after row."""
    delimiter: str | None = None
    """The character, or a blank for any number of blanks."""
    decimal: str | None = None
    comment: str | None = None


@dataclass(frozen=True)
class Rules:
    """What is to be done about numbers that are not finite, and how to read."""

    refuse: bool = True
    """Raise UnreadableInput; else they come as not-a-number."""
    options: Options = field(default_factory=Options)


Blocks = Generator[Floats, None, Place]
"""Blocks of numbers, each good until the next, and in the end the place to go on at."""
