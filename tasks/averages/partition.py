"""Divides the files of a job into parts, one part for each run.

With F files of t seconds each, W workers, and S seconds that a run takes to start, runs of P files
keep each worker busy for about

    (F / (W * P)) * (S + P * t)  +  P * t / 2

seconds: its share of the runs, and half a run of waiting for the last worker. The minimum is at
P = sqrt(2 * F * S / (W * t)). A run never gets more than its worker's share, F / W, so that no
worker is idle. Where all the work takes no longer than starting one run, no run is started.
"""

from dataclasses import dataclass
from math import ceil, sqrt


@dataclass(frozen=True, order=True)
class Part:
    """The files from index `first` up to, but not including, `end`."""

    first: int
    end: int

    @property
    def files(self) -> int:
        """The number of files."""
        return self.end - self.first

    def __str__(self) -> str:
        return f"{self.first}-{self.end}"

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Parse the text of a part, such as `0-8`. Raises ValueError."""
        first, _, end = text.partition("-")
        return cls(int(first), int(end))


@dataclass(frozen=True)
class Cost:
    """Measured times."""

    start: float
    """Seconds that a run takes to start."""
    file: float
    """Seconds for one file."""


def size_of_parts(files: int, workers: int, cost: Cost) -> int:
    """Number of files for each run; all files where starting another run does not pay."""
    if workers == 1 or files * cost.file <= cost.start:
        return files
    best = sqrt(2 * files * cost.start / (workers * cost.file))
    return max(1, min(round(best), ceil(files / workers)))


def partition(files: int, size: int) -> list[Part]:
    """Divide all files into parts of `size` files; the last part may be smaller."""
    return [Part(first, min(first + size, files)) for first in range(0, files, size)]
