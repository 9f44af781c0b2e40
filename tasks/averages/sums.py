"""Exact sums of every index over files: one range of indices at a time, in several threads.

Memory holds one accumulator and a block for each thread, whatever the size of the files. Each
round reads a further range of indices from every file, from where the last range ended.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.averages import read_as
from tasks.averages.accumulator import Accumulator, accumulator_size
from tasks.averages.progress import ReadProgress
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import LEAVE_ALONE, WRITE_A_NUMBER, Blocks, Place, Rules
from tasks.averages.reading.readers import Buffers, abreast, reader
from tasks.errors import UnreadableInput
from tasks.storage.inputs.local import InputFile, LocalFile

_OF_A_FILE = (FileNotFoundError, PermissionError, UnreadableInput)


@dataclass
class _Reading:
    """A file being read: its blocks, and the index of its next number."""

    file: InputFile
    blocks: Blocks
    index: int


class _Failed(Exception):
    """Names the file that an error, this exception's cause, belongs to."""

    def __init__(self, file: InputFile) -> None:
        super().__init__(file.name)
        self.file = file


@dataclass
class _Pass:
    """One round: an accumulator, the files still to read, and the place reached in each."""

    accumulator: Accumulator
    queue: deque[InputFile]
    places: dict[str, Place]
    progress: ReadProgress
    rules: Rules
    threads: int
    lengths: dict[str, int] = field(default_factory=dict[str, int])

    async def take(self, scratch: Path, buffers: Buffers) -> None:
        while self.queue:
            try:
                await self._some(self._next(), scratch, buffers)
            except Exception:
                self.queue.clear()  # the other threads end after their current files
                raise

    def _next(self) -> list[InputFile]:
        """Take files to read in parallel: each block of sums is then fetched from memory once.

        Only for files on this disk. A file that is copied here first is read alone, so that few
        copies take up disk space.
        """
        most = len(self.queue) // self.threads  # some for every thread
        files = [self.queue.popleft()]
        most = min(most, _abreast(files[0]))
        while len(files) < most and _abreast(self.queue[0]) > 1:
            files.append(self.queue.popleft())
        return files

    async def _some(self, files: Sequence[InputFile], scratch: Path, buffers: Buffers) -> None:
        try:
            async with AsyncExitStack() as stack:
                paths: list[Path] = []
                for file in files:
                    with _naming(file):
                        paths.append(await stack.enter_async_context(file.local(scratch)))
                await asyncio.to_thread(self._read, files, paths, buffers)
        except _Failed as failed:
            raise await _reason(failed.file, failed.__cause__) from failed.__cause__
        for file in files:
            if not await file.is_as_listed():
                raise _changed(file)

    def _read(self, files: Sequence[InputFile], paths: Sequence[Path], buffers: Buffers) -> None:
        with ExitStack() as stack:
            reading: list[_Reading] = []
            for file, path in zip(files, paths, strict=True):
                with _naming(file):
                    reading.append(self._begin(file, path, buffers))
                    stack.callback(reading[-1].blocks.close)
            while reading:
                reading = [one for one in reading if self._step(one, buffers)]

    def _begin(self, file: InputFile, path: Path, buffers: Buffers) -> _Reading:
        read, accumulator = reader(file.name), self.accumulator
        place = self.places.get(file.name, Place())
        if place == Place():
            self.progress.opened(path.stat().st_size)
        blocks = read(path, file.name, place, accumulator.size, self.rules, buffers)
        return _Reading(file, blocks, accumulator.first)

    def _step(self, one: _Reading, buffers: Buffers) -> bool:
        """Add the next block of a file. Returns False where the file has no further block."""
        try:
            numbers = next(one.blocks)
            if not self.accumulator.add(one.index, numbers, self.rules, buffers.error):
                raise _spoilt(one.file.name, one.index, numbers)
        except StopIteration as end:
            self.places[one.file.name] = end.value
            self.lengths[one.file.name] = one.index
            self.progress.finished(one.index - self.accumulator.first)
            return False
        except _OF_A_FILE as error:
            # As _naming does; to enter it for each block takes a tenth of the time of npy files.
            raise _Failed(one.file) from error
        if not self.rules.refuse and (missing := np.count_nonzero(np.isnan(numbers))):
            self.progress.skipped(int(missing))
        one.index += len(numbers)
        self.progress.read(len(numbers))
        return True


def _abreast(file: InputFile) -> int:
    return abreast(file.name) if isinstance(file, LocalFile) else 1


@contextmanager
def _naming(file: InputFile) -> Generator[None]:
    """Turn errors of the block into _Failed with the file."""
    try:
        yield
    except _OF_A_FILE as error:
        raise _Failed(file) from error


async def _reason(file: InputFile, error: BaseException | None) -> BaseException:
    """The error to raise for a file, with its name and the cure."""
    if isinstance(error, FileNotFoundError):
        return UnreadableInput(f"{file.name} has disappeared: {LEAVE_ALONE}")
    if isinstance(error, PermissionError):
        return UnreadableInput(
            f"{file.name} cannot be read: {error.strerror}: give the worker's user read access"
        )
    assert isinstance(error, UnreadableInput)
    return error if await file.is_as_listed() else _changed(file)


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


async def sum_in_ranges(
    files: Sequence[InputFile],
    scratch: Path,
    *,
    threads: int,
    memory: int,
    rules: Rules,
    progress: ReadProgress,
) -> AsyncGenerator[tuple[Accumulator, int]]:
    """Yield the sums of all indices, one accumulator after another, each with its length.

    `threads` threads read files at the same time; an accumulator takes at most `memory` bytes.
    Raises UnreadableInput naming a file that differs in length, holds something that is no number,
    or has changed meanwhile.
    """
    size = accumulator_size(memory)
    buffers = [Buffers() for _ in range(min(threads, len(files)))]
    places: dict[str, Place] = {}
    first = 0
    while True:
        progress.files_done, progress.expected, progress.before = 0, 0, first
        current = _Pass(
            Accumulator(first, size), deque(files), places, progress, rules, len(buffers)
        )
        takers = (current.take(scratch, mine) for mine in buffers)
        # Not a TaskGroup: it would hide the error in a group, and leave threads at work.
        for error in await asyncio.gather(*takers, return_exceptions=True):
            if error is not None:
                raise error
        end = _length(files, current.lengths, first + size)
        if end == 0:
            raise UnreadableInput(f"{files[0].name} holds no number: write at least one")
        progress.length = end
        found = [(file.name, places[file.name]) for file in files]
        progress.read_as = read_as.count((name, at.layout) for name, at in found if at.layout)
        progress.comments = sum(place.comments for _, place in found)
        read_as.check_alike(progress.read_as, end)
        if end > first:
            yield current.accumulator, end - first
        if end < first + size:
            return
        first = end
        progress.rounds += 1


def _length(files: Sequence[InputFile], lengths: dict[str, int], most: int) -> int:
    """The index that all files have reached. Raises UnreadableInput where they differ."""
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
