"""What the hosts of a pool do in turn: however many they are, the server is asked as often."""

import random
import time
from collections.abc import Callable

_SPREAD = (0.75, 1.25)  # of its time, at random: hosts that were started together move apart


class Turns:
    """When it is this host's turn to do what one host does for all.

    Nobody is elected: each host does it the more rarely, the more there are. One that is lost
    leaves no gap in which nobody does it.
    """

    def __init__(self, interval: float, hosts: Callable[[], int], few: int = 1) -> None:
        """`interval`: seconds between two turns. `hosts`: how many there are. `few`: up to so many
        take no turns; each does it whenever it asks."""
        self._interval = interval
        self._hosts = hosts
        self._few = few
        self._last = -float("inf")
        self._factor = 1.0

    def take(self) -> bool:
        """Whether it is this host's turn; where it is, the next one is later."""
        share, now = self._hosts() / self._few, time.monotonic()
        if share > 1 and now - self._last < self._interval * share * self._factor:
            return False
        self._last, self._factor = now, random.uniform(*_SPREAD)
        return True

    def hasten(self) -> None:
        """Let the next turn be now."""
        self._last = -float("inf")
