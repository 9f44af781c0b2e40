"""Work that the hosts of a pool do in turn: the server's load does not grow with their number."""

import random
import time
from collections.abc import Callable

_JITTER = (0.75, 1.25)  # factors of the interval: hosts that started together drift apart


class Turns:
    """Decides when this host does a task that one host does for all.

    There is no leader: each of N hosts does the task on average once in N intervals. When a host
    is lost, the others go on.
    """

    def __init__(self, interval: float, hosts: Callable[[], int], few: int = 1) -> None:
        """`interval`: seconds between two turns of all hosts together. `hosts`: counts them. `few`:
        up to so many hosts take no turns: `take` is always True."""
        self._interval = interval
        self._hosts = hosts
        self._few = few
        self._last = -float("inf")
        self._factor = 1.0

    def take(self) -> bool:
        """Whether it is this host's turn now. A turn that is taken starts the next interval."""
        share, now = self._hosts() / self._few, time.monotonic()
        if share > 1 and now - self._last < self._interval * share * self._factor:
            return False
        self._last, self._factor = now, random.uniform(*_JITTER)
        return True

    def hasten(self) -> None:
        """Make the next `take` return True."""
        self._last = -float("inf")
