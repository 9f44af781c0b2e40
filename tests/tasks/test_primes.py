"""The sieve against published counts, trial division and a sieve of one array."""

import gc
import resource
import subprocess
import sys
from concurrent.futures import CancelledError
from errno import EFBIG, ENOSPC
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.primes.sieve import (
    MAX_UPPER_BOUND,
    ROW_GROUP_SPAN,
    SEGMENT_SPAN,
    PrimeSummary,
    write_primes,
)

Integers = NDArray[np.int64]

# https://oeis.org/A006880: how many primes there are below 10**k.
PRIMES_BELOW_POWER_OF_TEN = {
    1: 4,
    2: 25,
    3: 168,
    4: 1_229,
    5: 9_592,
    6: 78_498,
    7: 664_579,
    8: 5_761_455,
}
LARGEST_KNOWN = ROW_GROUP_SPAN + SEGMENT_SPAN


def ignore(_: float) -> None:
    pass


def read(file: Path) -> Integers:
    return np.asarray(ds.dataset(file).to_table()["prime"].to_numpy(), np.int64)


def metadata_of(file: Path) -> pq.FileMetaData:
    with pq.ParquetFile(file) as parquet:
        return parquet.metadata


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, isqrt(number) + 1))


@pytest.fixture(scope="module")
def known() -> Integers:
    """All primes <= LARGEST_KNOWN, from the plainest sieve there is."""
    candidate = np.ones(LARGEST_KNOWN + 1, np.bool_)
    candidate[:2] = False
    for number in range(2, isqrt(LARGEST_KNOWN) + 1):
        candidate[number * number :: number] = False
    return np.flatnonzero(candidate).astype(np.int64)


@pytest.fixture(scope="module")
def hundred_million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("primes") / "primes.parquet"
    write_primes(10**8, file, ignore)
    return file


def check(bound: int, file: Path, known: Integers, threads: int | None = None) -> None:
    expected = known[: np.searchsorted(known, bound, "right")]
    summary = write_primes(bound, file, ignore, threads=threads)
    assert summary == PrimeSummary(
        upper_bound=bound, count=len(expected), largest=int(expected[-1])
    )
    assert np.array_equal(read(file), expected), bound


@pytest.mark.parametrize(("power", "count"), PRIMES_BELOW_POWER_OF_TEN.items())
def test_counts_are_the_published_ones(power: int, count: int, tmp_path: Path) -> None:
    file = tmp_path / "primes.parquet"
    assert write_primes(10**power, file, ignore).count == count
    assert metadata_of(file).num_rows == count


def test_every_small_bound_agrees_with_trial_division(tmp_path: Path) -> None:
    file = tmp_path / "primes.parquet"
    expected = [2]
    for bound in range(2, 2001):
        if bound > 2 and is_prime(bound):
            expected.append(bound)
        summary = write_primes(bound, file, ignore, threads=1)
        assert (summary.count, summary.largest) == (len(expected), expected[-1])
        assert read(file).tolist() == expected


@pytest.mark.parametrize("edge", [SEGMENT_SPAN, 2 * SEGMENT_SPAN, ROW_GROUP_SPAN])
def test_bounds_around_a_segment_edge(edge: int, tmp_path: Path, known: Integers) -> None:
    after = int(np.searchsorted(known, edge, "right"))
    nearest = {int(prime) for prime in known[after - 1 : after + 1]}
    for bound in {near + step for near in nearest | {edge} for step in (-1, 0, 1)}:
        check(bound, tmp_path / "primes.parquet", known)


def test_bounds_around_the_square_of_a_prime(tmp_path: Path, known: Integers) -> None:
    """Where one more prime begins to strike out, also across a segment's or row group's edge."""
    across = [np.searchsorted(known, isqrt(edge)) for edge in (SEGMENT_SPAN, ROW_GROUP_SPAN)]
    primes = {int(p) for i in across for p in known[i - 1 : i + 1]} | {2, 3, 13, 17, 19, 23, 997}
    for square in (prime * prime for prime in primes):
        for bound in (square - 1, square, square + 1):
            check(bound, tmp_path / "primes.parquet", known)


@given(
    bound=st.integers(2, LARGEST_KNOWN) | st.integers(2, 10**5),
    threads=st.integers(1, 4),
)
@settings(deadline=None, max_examples=30)
def test_any_bound_with_any_number_of_threads(
    bound: int, threads: int, tmp_path_factory: pytest.TempPathFactory, known: Integers
) -> None:
    check(bound, tmp_path_factory.mktemp("any") / "primes.parquet", known, threads)


def test_the_file_does_not_depend_on_the_number_of_threads(
    tmp_path: Path, hundred_million: Path
) -> None:
    write_primes(10**8, tmp_path / "primes.parquet", ignore, threads=1)
    assert (tmp_path / "primes.parquet").read_bytes() == hundred_million.read_bytes()


def test_the_column_is_int64_ascending_without_repeats(hundred_million: Path) -> None:
    schema = metadata_of(hundred_million).schema.to_arrow_schema()
    assert schema.equals(pa.schema([pa.field("prime", pa.int64(), nullable=False)]))
    assert (np.diff(read(hundred_million)) > 0).all()


def test_the_file_is_compact_and_in_several_row_groups(hundred_million: Path) -> None:
    metadata = metadata_of(hundred_million)
    rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    assert len(rows) == 5
    assert max(rows) < 1_500_000
    assert "DELTA_BINARY_PACKED" in metadata.row_group(0).column(0).encodings
    assert hundred_million.stat().st_size < 0.8 * metadata.num_rows


def test_the_file_is_read_lazily(hundred_million: Path) -> None:
    """The first rows alone; and a filter skips row groups by their least and largest prime."""
    metadata = metadata_of(hundred_million)
    ends: list[int | None] = []
    for i in range(metadata.num_row_groups):
        statistics = metadata.row_group(i).column(0).statistics
        assert statistics is not None
        ends += [statistics.min, statistics.max]
    assert ends == sorted({end for end in ends if end is not None})
    assert ds.dataset(hundred_million).head(4)["prime"].to_pylist() == [2, 3, 5, 7]
    last = ds.dataset(hundred_million).to_table(filter=pc.field("prime") > 99_999_900)
    expected = [number for number in range(99_999_901, 10**8) if is_prime(number)]
    assert last["prime"].to_pylist() == expected


@pytest.mark.parametrize("bound", [2, 3, 1000, SEGMENT_SPAN, 5 * ROW_GROUP_SPAN + 1])
def test_progress_rises_to_one(bound: int, tmp_path: Path) -> None:
    shares: list[float] = []
    write_primes(bound, tmp_path / "primes.parquet", shares.append)
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] == 1.0
    assert len(shares) == -(-bound // ROW_GROUP_SPAN)


@pytest.mark.parametrize("bound", [-1, 0, 1, MAX_UPPER_BOUND + 1])
def test_a_bound_out_of_range_is_refused(bound: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="choose one from 2 to 10000000000"):
        write_primes(bound, tmp_path / "primes.parquet", ignore)
    assert not (tmp_path / "primes.parquet").exists()


def test_cancelling_leaves_no_valid_file(tmp_path: Path) -> None:
    file = tmp_path / "primes.parquet"
    shares: list[float] = []
    with pytest.raises(CancelledError, match="cancelled after"):
        write_primes(10**8, file, shares.append, cancelled=lambda: len(shares) == 2)
    assert len(shares) == 2
    with pytest.raises(pa.ArrowInvalid):
        metadata_of(file)


def test_an_error_of_the_caller_leaves_no_valid_file(tmp_path: Path) -> None:
    def fail(_: float) -> None:
        raise LookupError("from the caller")

    file = tmp_path / "primes.parquet"
    with pytest.raises(LookupError, match="from the caller"):
        write_primes(10**8, file, fail)
    gc.collect()  # a writer left open would now complete the file
    with pytest.raises(pa.ArrowInvalid):
        metadata_of(file)


def test_a_target_that_cannot_be_opened_raises_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="is a directory"):
        write_primes(100, tmp_path, ignore)
    with pytest.raises(FileNotFoundError):
        write_primes(100, tmp_path / "missing" / "primes.parquet", ignore)


def test_a_full_disk_raises_oserror() -> None:
    with pytest.raises(OSError) as error:
        write_primes(100, Path("/dev/full"), ignore)
    assert error.value.errno == ENOSPC
    gc.collect()  # an unraisable error in a destructor would fail the test


def test_a_disk_that_fills_up_half_way_raises_oserror(tmp_path: Path) -> None:
    file = tmp_path / "primes.parquet"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(OSError) as error:
            write_primes(10**8, file, ignore)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == EFBIG
    gc.collect()
    with pytest.raises(pa.ArrowInvalid):
        metadata_of(file)


# VmHWM is of this program alone; ru_maxrss would begin at what pytest had when it forked.
MEMORY_PROGRAM = """
import sys
from pathlib import Path
from tasks.primes.sieve import write_primes

def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

before = peak_kib()
write_primes(3 * 10**8, Path(sys.argv[1]), lambda _: None, threads=4)
print((peak_kib() - before) // 1024)
"""


def test_memory_stays_below_150_mib(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MEMORY_PROGRAM, str(tmp_path / "primes.parquet")]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 150
