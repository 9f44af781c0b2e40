"""What readers and their users agree on: how far a file was read, and what is refused."""

from collections.abc import Generator
from dataclasses import dataclass

from tasks.averages.reading.exact import Floats

# Numbers read and added at a time: a megabyte, which a core's cache nearly holds with its sums. Of
# less, the interpreter's part in each block is more than that saves.
BLOCK = 131_072
# Numbers whose rounding errors are kept while they are added: they stay in a core's nearest cache.
ERRORS = 2048

# What to do about a file that is not what it was, and about what is no finite number.
LEAVE_ALONE = "leave the files alone until the job has ended, and submit it again"
WRITE_A_NUMBER = 'write a number there, or submit with "not_finite": "skip"'


@dataclass(frozen=True)
class Place:
    """Where to read on in a file: before its number `number`."""

    number: int = 0
    byte: int = 0
    """Of text: the first byte that is not read."""
    between: int = 0
    """Of text: what has come since the last number, as decimals.parse has it."""


@dataclass(frozen=True)
class Rules:
    """What is to be done about numbers that are not finite."""

    refuse: bool = True
    """Raise UnreadableInput; else they come as not-a-number."""


Blocks = Generator[Floats, None, Place]
"""Blocks of numbers, each good until the next, and in the end the place to go on at."""
