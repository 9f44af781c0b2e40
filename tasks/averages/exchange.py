"""Exchange of part sums: every run of a job stores them, and the job's own run combines them."""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from tasks.averages import sums_files as sums
from tasks.averages.accumulator import Accumulator, accumulator_size
from tasks.averages.partition import Part
from tasks.averages.progress import ReadProgress
from tasks.averages.read_as import check_alike
from tasks.averages.reading.exact import Floats
from tasks.averages.reading.place import ERRORS, Rules
from tasks.averages.sums import sum_in_ranges
from tasks.averages.sums_files import Done
from tasks.errors import StorageUnavailable, UnreadableInput
from tasks.storage.inputs.local import InputFile
from tasks.storage.results.parts import Parts

T = TypeVar("T")


class WithRetries(Protocol):
    """Runs blocking work on a storage, with retries while the storage is not available."""

    def __call__(self, doing: str, work: Callable[[], T], /) -> Awaitable[T]: ...


@dataclass(frozen=True)
class Exchange:
    """Sums parts, stores them, and combines the sums of all parts."""

    files: Sequence[InputFile]
    """All files of the job."""
    store: Parts
    scratch: Path
    threads: int
    memory: int
    rules: Rules
    with_retries: WithRetries

    async def make(self, part: Part, progress: ReadProgress) -> None:
        """Sum the files of a part, and store the sums. Raises as `sum_in_ranges`."""
        began, rounds, length = time.monotonic(), 0, 0
        mine = self.files[part.first : part.end]
        async for accumulator, count in sum_in_ranges(
            mine,
            self.scratch,
            threads=self.threads,
            memory=self.memory,
            rules=self.rules,
            progress=progress,
        ):
            path = self.scratch / sums.name(str(part), rounds)
            await asyncio.to_thread(sums.write, accumulator, count, path)
            await self.with_retries("store sums", partial(self.store.put, path.name, path))
            rounds, length = rounds + 1, length + count
        done = Done(
            first=mine[0].name,
            files=len(mine),
            bytes=progress.bytes,
            length=length,
            missing=progress.missing,
            comments=progress.comments,
            read_as=progress.read_as,
            rounds=rounds,
            seconds=time.monotonic() - began,
        )
        path = self.scratch / sums.name_of_done(str(part))
        path.write_text(done.model_dump_json())
        await self.with_retries("store sums", partial(self.store.put, path.name, path))

    async def finished(self, known: Mapping[Part, Done]) -> Mapping[Part, Done]:
        """The finished parts with their records; those of `known` are not read again."""
        look = partial(self._finished, known)
        try:
            return await asyncio.to_thread(look)  # called too often to be a task run each time
        except StorageUnavailable:
            return await self.with_retries("look for sums", look)

    async def together(self, done: Mapping[Part, Done]) -> AsyncGenerator[tuple[Accumulator, int]]:
        """Yield the sums of all files, one accumulator after another, each with its length.

        Raises UnreadableInput where files of two parts differ in length.
        """
        _check_lengths(done)
        size, first, error = accumulator_size(self.memory), 0, np.empty(ERRORS)
        for number in range(next(iter(done.values())).rounds):
            accumulator, length = Accumulator(first, size), 0
            for part in sorted(done):
                name = sums.name(str(part), number)
                add = partial(self._add, accumulator, name, error)
                length = await self.with_retries("fetch sums", add)
            yield accumulator, length
            first += length

    async def keep(self, done: Mapping[Part, Done], folder: Path) -> None:
        """Copy the sums of all parts to a folder, to be published."""
        folder.mkdir()
        for part, one in done.items():
            rounds = [sums.name(str(part), number) for number in range(one.rounds)]
            for name in (*rounds, sums.name_of_done(str(part))):
                await self.with_retries("fetch sums", partial(self._copy, name, folder / name))

    def _copy(self, name: str, target: Path) -> None:
        with self.store.get(name, self.scratch) as path:
            shutil.copyfile(path, target)

    def _finished(self, known: Mapping[Part, Done]) -> Mapping[Part, Done]:
        found = dict(known)
        for text in sums.done(self.store.names()):
            if (part := Part.parse(text)) not in found:
                with self.store.get(sums.name_of_done(text), self.scratch) as path:
                    found[part] = Done.model_validate_json(path.read_bytes())
        return found

    def _add(self, accumulator: Accumulator, name: str, error: Floats) -> int:
        with self.store.get(name, self.scratch) as path:
            return sums.add(accumulator, path, error)


def listing(files: Sequence[InputFile]) -> str:
    """Digest of the files' names in their order: differs for different lists of files."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
    return digest.hexdigest()


def _check_lengths(done: Mapping[Part, Done]) -> None:
    first = done[min(done)]
    for part in sorted(done):
        if done[part].length != first.length:
            short, long = sorted((first, done[part]), key=lambda one: one.length)
            raise UnreadableInput(
                f"{short.first} holds {short.length:,} numbers, and {long.first} "
                f"{long.length:,}: give every file as many"
            )
    check_alike((one for part in sorted(done) for one in done[part].read_as), first.length)
