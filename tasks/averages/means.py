"""Writes the means, block by block, as Parquet and, where asked for, as CSV or npy."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from tasks.averages.npy_header import write_npy_header
from tasks.averages.reading.exact import Floats
from tasks.contracts import NumbersFormat

_SCHEMA = pa.schema([pa.field("mean", pa.float64(), nullable=False)])


class MeansWriter:
    """Writes the same means to each of its files."""

    def __init__(self, folder: Path, formats: frozenset[NumbersFormat], files: ExitStack) -> None:
        self._parquet = pq.ParquetWriter(folder / "means.parquet", _SCHEMA, use_dictionary=False)
        files.callback(self._parquet.close)
        self._csv = self._npy = None
        if "csv" in formats:
            self._csv = files.enter_context((folder / "means.csv").open("wb"))
            self._csv.write(b"mean\n")  # Arrow would put it in quotes
        if "npy" in formats:
            self._npy = files.enter_context((folder / "means.npy").open("wb"))
            write_npy_header(self._npy, 0)
        self.count = 0

    def write(self, means: Floats) -> None:
        """Append means."""
        table = pa.Table.from_arrays([pa.array(means)], schema=_SCHEMA)
        self._parquet.write_table(table)
        if self._csv is not None:
            pc.write_csv(table, self._csv, pc.WriteOptions(include_header=False))
        if self._npy is not None:
            self._npy.write(means.data)
        self.count += len(means)

    def finish(self) -> None:
        """Write the count where a format has it in its header."""
        if self._npy is not None:
            self._npy.seek(0)
            write_npy_header(self._npy, self.count)


@contextmanager
def writing(folder: Path, formats: frozenset[NumbersFormat]) -> Generator[MeansWriter]:
    """Open means.parquet in a folder, and means.csv and means.npy where `formats` has them."""
    with ExitStack() as files:
        writer = MeansWriter(folder, formats, files)
        yield writer
        writer.finish()
