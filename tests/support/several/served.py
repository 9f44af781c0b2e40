"""The order in which jobs were served."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def inversions(wanted: Sequence[_T], served: Iterable[_T], slots: int) -> int:
    """How many jobs got a slot that belonged to another one.

    `wanted`: jobs in the order of the queues; `served`: in that in which workers took them. Slots
    that are free at the same moment are filled in any order: a job may be served as many places too
    early as there are `slots` besides its own.
    """
    places = {job: place for place, job in enumerate(wanted)}
    left = set(places)
    found = 0
    for job in served:
        ahead = sum(places[other] < places[job] for other in left)
        found += ahead >= slots
        left.discard(job)
    return found
