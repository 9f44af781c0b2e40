"""An accumulator: the exact sums of a range of indices, to which files are added."""

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np

from tasks.averages.reading.exact import ExactSum, Floats
from tasks.averages.reading.place import BLOCK, Rules
from tasks.errors import UnreadableInput

_PART = 8  # blocks whose means are computed and written at a time: a million numbers
BYTES_PER_NUMBER = 16  # an exact sum has two components


def accumulator_size(memory: int) -> int:
    """Number of indices whose sums fit into `memory` bytes, in whole blocks."""
    return max(BLOCK, memory // BYTES_PER_NUMBER // BLOCK * BLOCK)


class Accumulator:
    """The exact sums of `size` indices, from `first` on. Threads may add at the same time."""

    def __init__(self, first: int, size: int) -> None:
        self.first = first
        self.size = size
        # The kernel maps pages of zeros only when they are written.
        self._high, self._low = np.zeros(size), np.zeros(size)
        parts = (slice(start, start + BLOCK) for start in range(0, size, BLOCK))
        self._blocks = [_Block(ExactSum(self._high[part], self._low[part])) for part in parts]

    def add(self, index: int, numbers: Floats, rules: Rules, error: Floats) -> bool:
        """Add numbers to the indices from `index` on. Returns False where a sum is not finite."""
        at, done = index - self.first, 0
        while done < len(numbers):
            block, start = divmod(at + done, BLOCK)
            part = numbers[done : done + BLOCK - start]
            if not self._blocks[block].add(part, start, rules, error):
                return False
            done += len(part)
        return True

    def add_sums(
        self, block: int, missing: Floats, components: Sequence[Floats], error: Floats
    ) -> bool:
        """Add another accumulator's sums of a block. Returns False where a sum is not finite."""
        return self._blocks[block].add_sums(missing, components, error)

    def blocks(self, length: int) -> list[list[Floats]]:
        """The first `length` indices in blocks: counts of missing numbers, and sum components."""
        blocks = self._blocks[: -(-length // BLOCK)]
        return [
            block.rows(min(BLOCK, length - number * BLOCK)) for number, block in enumerate(blocks)
        ]

    def means(self, files: int, length: int, threads: int) -> Generator[Floats]:
        """Yield the means of the first `length` indices, a part at a time; overwrites the sums.

        Each part is divided by `threads` threads. New memory would cost more than the division.
        Raises UnreadableInput where an index has no finite number in any file.
        """
        counts = np.full(BLOCK, float(files))
        spare = [np.empty(BLOCK) for _ in range(threads)]
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, length, _PART * BLOCK):
                end = min(start + _PART * BLOCK, length)
                shares = [
                    range(start + number * BLOCK, end, threads * BLOCK) for number in range(threads)
                ]
                found = list(pool.map(partial(self._divide, counts, end), shares, spare))
                if none := [index for index in found if index is not None]:
                    raise UnreadableInput(
                        f"number {self.first + min(none) + 1:,} is finite in no file: "
                        "leave that place out of every file"
                    )
                yield self._high[start:end]

    def _divide(self, counts: Floats, end: int, starts: Iterable[int], spare: Floats) -> int | None:
        """Replace the sums of some blocks by means. Returns the first index that has no mean."""
        for start in starts:
            means = self._high[start : min(start + BLOCK, end)]
            none = self._blocks[start // BLOCK].mean(counts, spare[: len(means)])
            if none is not None:
                return start + none
            means[:] = spare[: len(means)]
        return None


@dataclass
class _Block:
    """The sums of a block of indices."""

    sums: ExactSum
    lock: Lock = field(default_factory=Lock)
    missing: Floats | None = None
    """For each index, the number of files without a finite number there."""

    def add(self, numbers: Floats, start: int, rules: Rules, error: Floats) -> bool:
        with self.lock:
            if not rules.refuse and np.isnan(numbers).any():
                if self.missing is None:
                    self.missing = np.zeros(self.sums.size)
                self.missing[start : start + len(numbers)] += np.isnan(numbers)
                numbers = np.nan_to_num(numbers, nan=0.0)
            return self.sums.add(numbers, error, start)

    def add_sums(self, missing: Floats, components: Sequence[Floats], error: Floats) -> bool:
        with self.lock:
            if missing.any():
                if self.missing is None:
                    self.missing = np.zeros(self.sums.size)
                self.missing[: len(missing)] += missing
            return all(self.sums.add(component, error) for component in components)

    def rows(self, size: int) -> list[Floats]:
        missing = np.zeros(size) if self.missing is None else self.missing[:size]
        return [missing, *(component[:size] for component in self.sums.components())]

    def mean(self, counts: Floats, out: Floats) -> int | None:
        """Write the means of the first indices to `out`. Returns the first index without a mean."""
        if self.missing is not None:
            missing = self.missing[: len(out)]
            counts = counts[: len(out)] - missing
            if not counts.all():
                return int(np.flatnonzero(counts == 0)[0])
        self.sums.mean(counts, out)
        return None
