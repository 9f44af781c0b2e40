"""Means over many files: ours against polars, numpy, dask, duckdb and a plain loop.

    python benchmarks/average_files.py [--files N] [--numbers N] [--rounds N] [--json FILE]

All read the same files from a warm page cache, on two cores. Each pass is a separate process, and
the passes of one format take turns, so that a busy machine slows all. "rate" excludes imports,
"whole" is the process from start to end, "peak" its largest resident size. Ours adds exactly and
checks every number; the others add in any order. A library without its own threads gets two Python
threads.
"""

# pyright: basic
# The peers' own types are partly unknown.

import argparse
import asyncio
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

CORES = 2
Floats = NDArray[np.float64]
Work = Callable[[Sequence[Path]], Floats]


def ours(files: Sequence[Path]) -> Floats:
    """The kernel of average-files, as a job with two CPUs runs it."""
    from tasks.averages.progress import ReadProgress
    from tasks.averages.reading.place import Rules
    from tasks.averages.sums import sum_in_ranges
    from tasks.storage.inputs.local import find_local

    async def means() -> Floats:
        folder = files[0].parent
        inputs = find_local(folder.name, folder.parent)[: len(files)]
        found: list[Floats] = []
        with tempfile.TemporaryDirectory() as scratch:
            async for accumulator, length in sum_in_ranges(
                inputs,
                Path(scratch),
                threads=CORES,
                memory=2**30,
                rules=Rules(),
                progress=ReadProgress(len(files)),
            ):
                found += accumulator.means(len(files), length, CORES)
        return found[0] if len(found) == 1 else np.concatenate(found)

    return asyncio.run(means())


def _added(rows: Iterable[Floats]) -> Floats:
    total: Floats | None = None
    for row in rows:
        if total is None:
            total = row.copy()
        else:
            total += row
    assert total is not None
    return total


def _with_threads(read: Callable[[Path], Floats]) -> Work:
    """The files in two halves, each added up by a thread."""

    def work(files: Sequence[Path]) -> Floats:
        with ThreadPoolExecutor(CORES) as pool:
            halves = pool.map(lambda half: _added(map(read, half)), (files[::2], files[1::2]))
            return _added(halves) / len(files)

    return work


def _one_by_one(read: Callable[[Path], Floats]) -> Work:
    return lambda files: _added(map(read, files)) / len(files)


def _polars(path: Path) -> Floats:
    import polars as pl

    table = (
        pl.read_parquet(path)
        if path.suffix == ".parquet"
        else pl.read_csv(path, has_header=False, schema={"x": pl.Float64})
    )
    return table.to_series().to_numpy()


def _numpy_text(path: Path) -> Floats:
    return np.loadtxt(path)


def _pyarrow(path: Path) -> Floats:
    import pyarrow.parquet as pq

    return cast(Any, pq.read_table(path, use_threads=False)).column(0).to_numpy()


def _duckdb(path: Path) -> Floats:
    import duckdb

    read = (
        f"read_parquet('{path}')"
        if path.suffix == ".parquet"
        else f"read_csv('{path}', header=false, columns={{'x': 'DOUBLE'}})"
    )
    (column,) = duckdb.execute(f"SELECT * FROM {read}").fetchnumpy().values()
    return np.asarray(column)


def _dask(read: Callable[[Path], Floats]) -> Work:
    def work(files: Sequence[Path]) -> Floats:
        import dask.array as da
        import dask.config
        from dask.delayed import delayed

        size = len(read(files[0]))
        rows = [da.from_delayed(delayed(read)(path), (size,), dtype=np.float64) for path in files]
        with dask.config.set(scheduler="threads", num_workers=CORES):
            return da.stack(rows).mean(axis=0).compute()

    return work


def _pandas_text(path: Path) -> Floats:
    import pandas as pd

    return pd.read_csv(path, header=None, dtype=np.float64)[0].to_numpy()


def _pandas_parquet(path: Path) -> Floats:
    import pandas as pd

    return pd.read_parquet(path).iloc[:, 0].to_numpy()


def _loop(files: Sequence[Path]) -> Floats:
    """The simplest program: row by row, without a library."""
    totals: list[float] = []
    for path in files:
        with path.open(newline="") as file:
            for i, row in enumerate(csv.reader(file)):
                if i == len(totals):
                    totals.append(0.0)
                totals[i] += float(row[0])
    return np.array(totals) / len(files)


WORK: dict[str, dict[str, Work]] = {
    "csv": {
        "ours": ours,
        "polars": _one_by_one(_polars),
        "dask": _dask(_pandas_text),
        "duckdb": _one_by_one(_duckdb),
        "numpy": _with_threads(_numpy_text),
        "loop": _loop,
    },
    "parquet": {
        "ours": ours,
        "numpy": _with_threads(_pyarrow),
        "polars": _one_by_one(_polars),
        "dask": _dask(_pandas_parquet),
        "duckdb": _one_by_one(_duckdb),
    },
    "npy": {
        "ours": ours,
        "numpy": _with_threads(np.load),
        "numpy, 1 thread": _one_by_one(np.load),
        "dask": _dask(np.load),
    },
}


def peak_memory() -> float:
    """This process' peak resident size, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def make_files(
    folder: Path, files: int, numbers: int, formats: Sequence[str] = ("csv", "parquet", "npy")
) -> None:
    """Files of random numbers, in a folder for each format."""
    from tasks.averages.reading.generated import generated_files
    from tasks.contracts import GenerateNumbers

    async def copy(format: Any) -> None:
        wanted = GenerateNumbers(files=files, numbers=numbers, seed=1, format=format)
        (folder / format).mkdir()
        for file in generated_files(wanted):
            async with file.local(folder) as path:
                path.rename(folder / format / file.name)

    for format in formats:
        asyncio.run(copy(format))


def measure(format: str, who: str, folder: Path) -> None:
    """One measured pass, in this process; prints its figures as JSON."""
    work, files = WORK[format][who], sorted(folder.iterdir())
    work(files[:2])  # warm up: imports, compilation and caches
    if who == "loop":
        files = files[:4]  # all files would take minutes
    began, cpu = time.perf_counter(), time.process_time()
    means = work(files)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    size = sum(path.stat().st_size for path in files)
    check = float(means[::1000].sum()) if who != "loop" else None
    print(
        json.dumps(
            {"rate": size / seconds / 1e6, "cpu": cpu, "peak": peak_memory(), "check": check}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--numbers", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        format, who, folder = given.measure
        measure(format, who, Path(folder))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with tempfile.TemporaryDirectory() as place:
        make_files(Path(place), given.files, given.numbers)
        report = [
            row for format in WORK for row in _rounds(format, Path(place) / format, given.rounds)
        ]
    print(f"{platform.machine()}, {CORES} cores, {given.files} files of {given.numbers:,} numbers")
    _show(report)
    if given.json:
        given.json.write_text(json.dumps(report, indent=2) + "\n")


def _rounds(format: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    passes: dict[str, list[dict[str, float]]] = {who: [] for who in WORK[format]}
    for _ in range(rounds):
        for who in passes:
            command = [sys.executable, __file__, "--measure", format, who, str(folder)]
            began = time.perf_counter()
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            figures = json.loads(done.stdout.splitlines()[-1])
            passes[who].append(figures | {"whole": time.perf_counter() - began})
    checks = {who: rows[0].pop("check") for who, rows in passes.items()}
    for who, check in checks.items():
        assert check is None or np.isclose(check, checks["ours"], rtol=1e-12), (format, checks, who)
    best = statistics.median(row["rate"] for row in passes["ours"])
    return [
        {
            "format": format,
            "who": who,
            "ours is faster by": best / statistics.median(row["rate"] for row in rows),
            "spread": [min(row["rate"] for row in rows), max(row["rate"] for row in rows)],
            **{
                name: statistics.median(row[name] for row in rows)
                for name in ("rate", "cpu", "peak", "whole")
            },
        }
        for who, rows in passes.items()
    ]


def _show(report: list[dict[str, Any]]) -> None:
    print("format   who                 MB/s        spread  ours by    MiB  whole s")
    for row in report:
        low, high = row["spread"]
        print(
            f"{row['format']:8} {row['who']:16} {row['rate']:7.0f} {low:6.0f}-{high:<6.0f} "
            f"{row['ours is faster by']:8.2f} {row['peak']:6.0f} {row['whole']:8.2f}"
        )


if __name__ == "__main__":
    main()
