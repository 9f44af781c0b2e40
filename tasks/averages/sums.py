"""The exact sums of every index over files, a stripe of indices at a time, by several threads.

Whatever the files' size, the sums of one stripe and a block a thread are all that is in memory. A
file longer than a stripe is read on where the stripe before it ended.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np

from tasks.averages.reading.exact import ExactSum, Floats
from tasks.averages.reading.place import BLOCK, LEAVE_ALONE, WRITE_A_NUMBER, Place, Rules
from tasks.averages.reading.readers import Buffers, reader
from tasks.averages.tally import Tally
from tasks.errors import UnreadableInput
from tasks.inputs import InputFile

_PART = 32  # blocks whose means are made and written at a time: a million numbers
BYTES_PER_NUMBER = 16  # of an exact sum: two components


class Stripe:
    """The exact sums of up to `size` indices, from `first` on; any thread may add to it."""

    def __init__(self, first: int, size: int) -> None:
        self.first = first
        self.size = size
        self._blocks = [_Block() for _ in range(-(-size // BLOCK))]

    def add(self, index: int, numbers: Floats, rules: Rules, error: Floats) -> bool:
        """Add numbers to the indices from `index` on. Returns False where a sum is spoilt."""
        at, done = index - self.first, 0
        while done < len(numbers):
            block, start = divmod(at + done, BLOCK)
            part = numbers[done : done + BLOCK - start]
            room = min(BLOCK, self.size - block * BLOCK)
            if not self._blocks[block].add(part, start, room, rules, error[: len(part)]):
                return False
            done += len(part)
        return True

    def add_sums(
        self, block: int, missing: Floats, components: Sequence[Floats], error: Floats
    ) -> bool:
        """Add the sums of a block of indices, made elsewhere. Returns False where one is spoilt."""
        room = min(BLOCK, self.size - block * BLOCK)
        return self._blocks[block].add_sums(missing, components, room, error)

    def blocks(self, length: int) -> list[list[Floats]]:
        """The first `length` indices in blocks: how many are missing, and the sums' components."""
        blocks = self._blocks[: -(-length // BLOCK)]
        return [
            block.rows(min(BLOCK, length - number * BLOCK)) for number, block in enumerate(blocks)
        ]

    def means(self, files: int, length: int) -> Generator[Floats]:
        """The means of the first `length` indices, a part at a time.

        Raises UnreadableInput where an index has none.
        """
        index = self.first
        for start in range(0, length, _PART * BLOCK):
            blocks = self._blocks[start // BLOCK : start // BLOCK + _PART]
            parts = [block.mean(files) for block in blocks if block.sums is not None]
            means = np.concatenate(parts)[: length - start]
            none = np.flatnonzero(np.isnan(means))
            if len(none):
                raise UnreadableInput(
                    f"number {index + int(none[0]) + 1:,} is finite in no file: "
                    "leave that place out of every file"
                )
            yield means
            index += len(means)


@dataclass
class _Block:
    """The sums of a block of indices, made when the first number comes."""

    lock: Lock = field(default_factory=Lock)
    sums: ExactSum | None = None
    missing: Floats | None = None
    """For each index, how many files have no finite number there."""

    def add(self, numbers: Floats, start: int, room: int, rules: Rules, error: Floats) -> bool:
        with self.lock:
            if self.sums is None:
                self.sums = ExactSum(room)
            if not rules.refuse and np.isnan(numbers).any():
                if self.missing is None:
                    self.missing = np.zeros(room)
                self.missing[start : start + len(numbers)] += np.isnan(numbers)
                numbers = np.nan_to_num(numbers, nan=0.0)
            return self.sums.add(numbers, error, start)

    def add_sums(
        self, missing: Floats, components: Sequence[Floats], room: int, error: Floats
    ) -> bool:
        with self.lock:
            if self.sums is None:
                self.sums = ExactSum(room)
            if missing.any():
                if self.missing is None:
                    self.missing = np.zeros(room)
                self.missing[: len(missing)] += missing
            return all(self.sums.add(component, error) for component in components)

    def rows(self, size: int) -> list[Floats]:
        assert self.sums is not None
        missing = np.zeros(size) if self.missing is None else self.missing[:size]
        return [missing, *(component[:size] for component in self.sums.components())]

    def mean(self, files: int) -> Floats:
        assert self.sums is not None
        counts = np.full(self.sums.size, float(files))
        if self.missing is None:
            return self.sums.mean(counts)
        counts -= self.missing
        empty = counts == 0
        counts[empty] = 1
        means = self.sums.mean(counts)
        means[empty] = np.nan
        return means


@dataclass
class _Pass:
    """One stripe over all files: the files yet to read, and where each has come to."""

    stripe: Stripe
    queue: deque[InputFile]
    places: dict[str, Place]
    tally: Tally
    rules: Rules
    lengths: dict[str, int] = field(default_factory=dict[str, int])

    async def take(self, scratch: Path, buffers: Buffers) -> None:
        while self.queue:
            file = self.queue.popleft()
            try:
                await self._one(file, scratch, buffers)
            except Exception:
                self.queue.clear()  # the others end with the file they are at
                raise

    async def _one(self, file: InputFile, scratch: Path, buffers: Buffers) -> None:
        try:
            async with file.local(scratch) as path:
                await asyncio.to_thread(self._read, file.name, path, buffers)
        except FileNotFoundError as error:
            raise UnreadableInput(f"{file.name} has disappeared: {LEAVE_ALONE}") from error
        except PermissionError as error:
            raise UnreadableInput(
                f"{file.name} cannot be read: {error.strerror}: give the worker's user read access"
            ) from error
        except UnreadableInput as error:
            if not await file.is_as_listed():
                raise _changed(file) from error
            raise
        if not await file.is_as_listed():
            raise _changed(file)

    def _read(self, name: str, path: Path, buffers: Buffers) -> None:
        read, stripe = reader(name), self.stripe
        place = self.places.get(name, Place())
        if place == Place():
            self.tally.opened(path.stat().st_size)
        blocks, index = read(path, name, place, stripe.size, self.rules, buffers), stripe.first
        try:
            while True:
                numbers = next(blocks)
                if not stripe.add(index, numbers, self.rules, buffers.error):
                    raise _spoilt(name, index, numbers)
                index += len(numbers)
                self.tally.read(len(numbers))
        except StopIteration as end:
            self.places[name] = end.value
        finally:
            blocks.close()
        self.lengths[name] = index
        self.tally.finished(index - stripe.first)


def _changed(file: InputFile) -> UnreadableInput:
    return UnreadableInput(f"{file.name} has changed, or gone, while it was read: {LEAVE_ALONE}")


def _spoilt(name: str, index: int, numbers: Floats) -> UnreadableInput:
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        return UnreadableInput(
            f"{name}: number {index + int(wrong[0]) + 1:,} is {numbers[wrong[0]]}, not finite: "
            f"{WRITE_A_NUMBER}"
        )
    return UnreadableInput(
        f"{name}: between number {index + 1:,} and {index + len(numbers):,} a sum leaves the range "
        "of float64 (1.8e308): scale the numbers down"
    )


def size_of_stripes(memory: int) -> int:
    """How many indices have their sums in so many bytes, in whole blocks."""
    return max(BLOCK, memory // BYTES_PER_NUMBER // BLOCK * BLOCK)


async def stripes(
    files: Sequence[InputFile],
    scratch: Path,
    *,
    threads: int,
    memory: int,
    rules: Rules,
    tally: Tally,
) -> AsyncGenerator[tuple[Stripe, int]]:
    """The sums of all indices, a stripe after the other, and how many indices each has.

    `threads` files are read at once; the sums of a stripe take at most `memory` bytes. Raises
    UnreadableInput naming the file that is of another length, holds what is no number, or is not
    any more what it was.
    """
    size = size_of_stripes(memory)
    buffers = [Buffers() for _ in range(min(threads, len(files)))]
    places: dict[str, Place] = {}
    first = 0
    while True:
        tally.files_done, tally.expected, tally.before = 0, 0, first
        current = _Pass(Stripe(first, size), deque(files), places, tally, rules)
        takers = (current.take(scratch, mine) for mine in buffers)
        # Not a TaskGroup: it would hide the error in a group, and leave threads at work.
        for error in await asyncio.gather(*takers, return_exceptions=True):
            if error is not None:
                raise error
        end = _length(files, current.lengths, first + size)
        if end == 0:
            raise UnreadableInput(f"{files[0].name} holds no number: write at least one")
        tally.length = end
        if end > first:
            yield current.stripe, end - first
        if end < first + size:
            return
        first = end
        tally.rounds += 1


def _length(files: Sequence[InputFile], lengths: dict[str, int], most: int) -> int:
    """Where all files have come to. Raises UnreadableInput where they differ."""
    first = files[0].name
    for file in files:
        if lengths[file.name] != lengths[first]:
            short, long = sorted((first, file.name), key=lengths.__getitem__)
            reached = lengths[long]
            raise UnreadableInput(
                f"{short} holds {lengths[short]:,} numbers, and {long} "
                f"{'more' if reached == most else f'{reached:,}'}: give every file as many"
            )
    return lengths[first]
