"""Speculation: chooses slow parts for a second run."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class SpeculationRule:
    """When a slow part gets a second run. The run that finishes first counts, and only that one."""

    share: float = 0.75
    """Share of the parts that must be done before any part gets a second run."""
    factor: float = 1.2
    """A part must run longer than this multiple of the finished parts' mean."""
    most: float = 0.1
    """Maximum of second runs, as a share of the parts; where not 0, one is always allowed."""
    few: int = 4
    """With at most this many parts, a share says little, and `seconds` decides too."""
    seconds: float = 30.0
    """With few parts, a part must run this much longer than the mean of the finished parts."""

    def slow(
        self, parts: int, finished: Mapping[K, float], running: Mapping[K, float], copies: int
    ) -> list[K]:
        """The parts that get a second run now, slowest first.

        `finished` and `running`: seconds that each part took, or has run so far, without parts
        that have a second run; `copies`: the number of second runs so far.
        """
        allowed = max(1, int(self.most * parts)) if self.most else 0
        if not finished or copies >= allowed:
            return []
        mean = fmean(finished.values())
        limit = self.factor * mean
        if parts <= self.few:
            limit = max(limit, mean + self.seconds)
        elif len(finished) < self.share * parts:
            return []
        slow = sorted((part for part in running if running[part] > limit), key=running.__getitem__)
        return slow[::-1][: allowed - copies]
