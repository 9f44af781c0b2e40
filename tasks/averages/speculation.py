"""Which parts take so long that a second run shall try them too."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True)
class SpeculationRule:
    """When a part is given to a second run; whichever ends first counts, and only one does."""

    share: float = 0.75
    """Of the parts, done before any is copied."""
    factor: float = 1.2
    """Times the mean of the finished that a part has to run first."""
    most: float = 0.1
    """Copies, as a share of the parts; where it is not 0, one is always allowed."""
    few: int = 4
    """Up to so many parts, where a share says little, `seconds` decides as well."""
    seconds: float = 30.0
    """That a part has to run longer than the mean of the finished, where they are few."""

    def slow(
        self, parts: int, finished: Mapping[K, float], running: Mapping[K, float], copies: int
    ) -> list[K]:
        """The parts to copy now, slowest first.

        `finished` and `running` are how long each part took and has run so far, in seconds;
        `copies` how many were made already. What was copied is not among the running.
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
