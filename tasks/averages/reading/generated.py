"""Files of random numbers, written just before they are read and removed afterwards."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tasks.averages.npy_header import write_npy_header
from tasks.averages.reading.exact import Floats
from tasks.contracts import GenerateNumbers

_AT_ONCE = 1_000_000
_SCHEMA = pa.schema([pa.field("value", pa.float64(), nullable=False)])


@dataclass(frozen=True)
class GeneratedFile:
    """A file of numbers uniform in [0, 1), from PCG64 seeded with the seed and the file's index."""

    name: str
    place: int
    wanted: GenerateNumbers

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        """Write the file to `scratch`, give its path, and remove it afterwards."""
        path = scratch / f"{uuid.uuid4().hex}.{self.wanted.format}"
        try:
            await asyncio.to_thread(self._write, path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def is_as_listed(self) -> bool:
        """Always true: the file is made from the seed."""
        return True

    def _write(self, path: Path) -> None:
        write = {"csv": _write_csv, "npy": _write_npy, "parquet": _write_parquet}
        write[self.wanted.format](path, self.wanted.numbers, self._numbers())

    def _numbers(self) -> Generator[Floats]:
        random = np.random.Generator(np.random.PCG64([self.wanted.seed, self.place]))
        for start in range(0, self.wanted.numbers, _AT_ONCE):
            yield random.random(min(_AT_ONCE, self.wanted.numbers - start))


def generated_files(wanted: GenerateNumbers) -> list[GeneratedFile]:
    """The wanted files; none of them is written yet."""
    digits = len(str(wanted.files - 1))
    return [
        GeneratedFile(f"{place:0{digits}}.{wanted.format}", place, wanted)
        for place in range(wanted.files)
    ]


def _write_csv(path: Path, count: int, parts: Generator[Floats]) -> None:
    bare = pc.WriteOptions(include_header=False)
    with path.open("wb") as file:
        for part in parts:
            pc.write_csv(_table(part), file, bare)


def _write_npy(path: Path, count: int, parts: Generator[Floats]) -> None:
    with path.open("wb") as file:
        write_npy_header(file, count)
        for part in parts:
            part.tofile(file)


def _write_parquet(path: Path, count: int, parts: Generator[Floats]) -> None:
    with pq.ParquetWriter(path, _SCHEMA, use_dictionary=False, compression="none") as writer:
        for part in parts:
            writer.write_table(_table(part))


def _table(part: Floats) -> pa.Table:
    return pa.Table.from_arrays([pa.array(part)], schema=_SCHEMA)
