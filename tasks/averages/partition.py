"""How many files a run is given.

With F files of t seconds each, W workers, and S seconds that a run takes to start, runs of P files
make each worker busy for about

    (F / (W * P)) * (S + P * t)  +  P * t / 2

seconds: its share of the runs, and half a run that it waits for the last of the others. That is
least for P = sqrt(2 * F * S / (W * t)). A run is never given more than its worker's share, F / W,
so that none idles; and where all the work takes no longer than starting one run, none is started.
"""

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, order=True)
class Part:
    """The files from `first` up to, and without, `end`."""

    first: int
    end: int

    @property
    def files(self) -> int:
        """How many they are."""
        return self.end - self.first

    def __str__(self) -> str:
        return f"{self.first}-{self.end}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part of that text. Raises ValueError."""
        first, _, end = text.partition("-")
        return cls(int(first), int(end))


@dataclass(frozen=True)
class Cost:
    """What was measured."""

    start: float
    """Seconds that a run takes before it does anything."""
    file: float
    """Seconds for one file."""


def size_of_parts(files: int, workers: int, cost: Cost) -> int:
    """How many files a run is given, from what things cost; all, where none is worth a start."""
    if workers == 1 or files * cost.file <= cost.start:
        return files
    best = sqrt(2 * files * cost.start / (workers * cost.file))
    return max(1, min(round(best), ceil(files / workers)))


def partition(files: int, size: int) -> list[Part]:
    """All files in parts of that size, the last perhaps smaller."""
    return [Part(first, min(first + size, files)) for first in range(0, files, size)]
