"""Writes all primes up to a bound to one Parquet file. Does not import Prefect.

The method is the segmented sieve of Eratosthenes (Bays and Hudson, "The segmented sieve of
Eratosthenes and primes in arithmetic progressions to 10^12", BIT 17, 1977, pp. 121-127) over odd
numbers, with the multiples of the smallest primes copied from a pattern rather than struck out.
It is written in numpy because primesieve, the usual library, has no wheels on PyPI for the
supported versions of Python. Replace it with primesieve when that changes.
"""

import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from math import isqrt
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel

MAX_UPPER_BOUND = 10**10

# Their multiples repeat every 255,255 odd numbers. A segment is a whole number of these periods, so
# it always begins at the same place of the pattern.
_PATTERN_PRIMES = (3, 5, 7, 11, 13, 17)
_PATTERN_PERIOD = 3 * 5 * 7 * 11 * 13 * 17

# One byte per odd number: 2 MB. At 10**10, half this size takes 1.35 times the time (twice as many
# Python calls), four times this size 1.3 times (beyond the L2 cache). Measured on an AMD EPYC.
_SEGMENT_ODDS = 8 * _PATTERN_PERIOD
SEGMENT_SPAN = 2 * _SEGMENT_ODDS

# One thread sieves one row group at a time: 20,420,400 numbers, 0.9 to 1.3 million primes.
ROW_GROUP_SPAN = 5 * SEGMENT_SPAN

# More threads gain nothing, because of the interpreter lock, and each costs about 20 MB.
_MAX_THREADS = 4

_SCHEMA = pa.schema([pa.field("prime", pa.int64(), nullable=False)])

_Odds = NDArray[np.bool_]
_Integers = NDArray[np.int64]


class PrimeSummary(BaseModel, frozen=True):
    """How many primes there are up to and including `upper_bound`, and the largest of them."""

    upper_bound: int
    count: int
    largest: int


def _never() -> bool:
    return False


def write_primes(
    upper_bound: int,
    target: Path,
    progress: Callable[[float], None],
    cancelled: Callable[[], bool] = _never,
    threads: int | None = None,
) -> PrimeSummary:
    """Write every prime <= `upper_bound` to the Parquet file `target`, ascending, column `prime`.

    The column is int64, not null, in row groups of about a million. Once per row group (about
    every 50 ms), in the calling thread, `progress` gets the share done, 0 to 1, and `cancelled` is
    called. `threads` threads sieve; by default one for each CPU of this process, at most four.

    An existing `target` is replaced. After any error the file is not valid Parquet, and the caller
    must remove it.

    Raises:
        ValueError: `upper_bound` is not in 2..10**10.
        OSError: `target` cannot be written, for instance because the disk is full.
        concurrent.futures.CancelledError: `cancelled` returned true.
    """
    if not 2 <= upper_bound <= MAX_UPPER_BOUND:
        raise ValueError(f"upper_bound is {upper_bound}: choose one from 2 to {MAX_UPPER_BOUND}")
    if threads is None:
        threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS)
    count = largest = 0
    sieve = _Sieve(upper_bound)
    spans = range(0, upper_bound, ROW_GROUP_SPAN)
    with _parquet(target) as writer, closing(_in_order(sieve.row_group, spans, threads)) as groups:
        for low, primes in zip(spans, groups, strict=True):
            if cancelled():
                raise CancelledError(f"cancelled after {count} primes, the largest {largest}")
            if primes:  # the last span may be too short to hold one
                column = pa.chunked_array(primes, pa.int64())
                table = pa.Table.from_arrays([column], schema=_SCHEMA)
                writer.write_table(table, row_group_size=len(column))
                count += len(column)
                largest = int(primes[-1][-1])
            progress(min(1.0, (low + ROW_GROUP_SPAN) / upper_bound))
    return PrimeSummary(upper_bound=upper_bound, count=count, largest=largest)


class _Sieve:
    """Read-only data that all threads share: the pattern, and the primes to strike out with."""

    def __init__(self, upper_bound: int) -> None:
        self._upper_bound = upper_bound
        self._pattern: _Odds = np.ones(min(_SEGMENT_ODDS, (upper_bound + 1) // 2), np.bool_)
        for prime in _PATTERN_PRIMES:
            self._pattern[prime // 2 :: prime] = False
        primes = _small_primes(isqrt(upper_bound))
        self._strikers = primes[primes > _PATTERN_PRIMES[-1]]

    def row_group(self, low: int) -> list[_Integers]:
        """The primes above `low` of one row group, one array per segment."""
        high = min(low + ROW_GROUP_SPAN, self._upper_bound)
        segments = (self._segment(start) for start in range(low, high, SEGMENT_SPAN))
        return [primes for primes in segments if len(primes)]

    def _segment(self, low: int) -> _Integers:
        """The primes of the segment that begins above `low`, a multiple of the segment's span."""
        high = min(low + SEGMENT_SPAN, self._upper_bound)
        first = low + 1
        odds = self._pattern[: (high - low + 1) // 2].copy()  # odds[i] stands for first + 2 * i
        strikers = self._strikers[: np.searchsorted(self._strikers, isqrt(high), "right")]
        # Strike from the first odd multiple in the segment, but not below the square: smaller
        # multiples have a smaller factor. Twice its index is -first modulo the prime, made even.
        to_multiple = -first % strikers
        starts = (to_multiple + strikers * (to_multiple & 1)) // 2
        starts = np.maximum(starts, (strikers * strikers - first) // 2)
        for start, prime in zip(starts.tolist(), strikers.tolist(), strict=True):
            odds[start::prime] = False
        if low == 0:  # the pattern strikes out its own primes
            odds[[prime // 2 for prime in _PATTERN_PRIMES if prime <= high]] = True
        primes = np.flatnonzero(odds).astype(np.int64, copy=False)
        primes *= 2
        primes += first
        if low == 0:
            primes[0] = 2  # replaces 1, which no prime has struck out
        return primes


def _small_primes(bound: int) -> _Integers:
    """All primes <= `bound`, for a bound small enough to be one array."""
    is_prime = np.ones(bound + 1, np.bool_)
    is_prime[:2] = False
    for number in range(2, isqrt(bound) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = False
    return np.flatnonzero(is_prime).astype(np.int64, copy=False)


def _in_order(
    work: Callable[[int], list[_Integers]], spans: range, threads: int
) -> Generator[list[_Integers], None, None]:
    """Yield the results of `work` in the order of `spans`; at most threads + 2 are pending."""
    pending: deque[Future[list[_Integers]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="primes")
    try:
        for span in spans:
            if len(pending) == threads + 2:
                yield pending.popleft().result()
            pending.append(pool.submit(work, span))
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _parquet(target: Path) -> Generator[pq.ParquetWriter, None, None]:
    """Open a writer of primes; after an error the file has no footer, and so is invalid.

    ParquetWriter's own `with`, its destructor and its C++ part write the footer after an error
    too, which gives a readable file with missing primes. So the file is closed before them.
    """
    with pa.OSFile(str(target), "wb") as file:
        writer = pq.ParquetWriter(
            file,
            _SCHEMA,
            use_dictionary=False,
            column_encoding={"prime": "DELTA_BINARY_PACKED"},
            compression="zstd",  # 0.70 bytes per prime at 10**8, from 0.85, and no slower
            compression_level=1,
        )
        try:
            yield writer
            writer.close()
        finally:
            writer.is_open = False
