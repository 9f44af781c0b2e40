"""Compiles every loop once, for the image's cache: `python -m tasks.averages.reading.warm`."""

import numpy as np

from tasks.averages.reading import decimals
from tasks.averages.reading.exact import ExactSum


def main() -> None:
    """Add numbers that need three components, divide, and parse numbers of each kind."""
    sums, error = ExactSum(np.zeros(1), np.zeros(1)), np.empty(1)
    for number in (1e100, 1.0, 1e-100):
        more = np.array([number])
        sums.add(more, error)
        more.flags.writeable = False  # like arrays from Parquet, for which numba compiles anew
        sums.add(more, error)
    sums.mean(np.ones(1), np.empty(1))
    text = np.frombuffer(bytearray(b"1.5, 0.12345678901234567e-30"), np.uint8)
    decimals.parse(text, 0, len(text), decimals.new_state(commas=True), np.empty(2))
    decimals.translate(text, 0, len(text), np.arange(256, dtype=np.uint8))


if __name__ == "__main__":
    main()
