"""Estimates when a job starts or ends, and states the basis of the estimate."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from deployments.jobs.records import Estimate

_LEAST = 0.02  # share of the work from which on its pace is meaningful


class Typical(NamedTuple):
    """The typical run time of a task's last jobs."""

    seconds: float
    """The median."""
    jobs: int


def typical_times(completed: Iterable[tuple[str, float]]) -> dict[str, Typical]:
    """The typical run time per task. `completed`: task and seconds of each completed job."""
    times: dict[str, list[float]] = defaultdict(list)
    for task, seconds in completed:
        times[task].append(seconds)
    return {task: Typical(median(ran), len(ran)) for task, ran in times.items()}


def estimate_start(
    before: int,
    waiting: Mapping[str, int],
    running: Sequence[tuple[str, float]],
    slots: int,
    typical: Mapping[str, Typical],
) -> Estimate | None:
    """Estimate when a waiting job starts: the work before it, divided by the number of slots.

    `before`: number of jobs served before it. `waiting`: number of waiting jobs per task.
    `running`: task and seconds so far of each running job. `typical`: as from `typical_times`.
    Returns None where there is no slot, or no typical time.
    """
    if slots < 1 or not typical:
        return None
    if before == 0 and len(running) < slots:
        return Estimate("starts", 0.0, f"{len(running)} of {slots} slots are in use")
    # A task without completed jobs is assumed to be like the others.
    usual = median(each.seconds for each in typical.values())

    def seconds(task: str) -> float:
        return typical[task].seconds if task in typical else usual

    left = sum(max(0.0, seconds(task) - ran) for task, ran in running)
    known = sum(waiting.values())
    mean = sum(seconds(task) * n for task, n in waiting.items()) / known if known else usual
    named = sorted({*(t for t, n in waiting.items() if n), *(t for t, _ in running)} & {*typical})
    basis = ", ".join(
        f"{task} {in_words(typical[task].seconds)} (median of the last {typical[task].jobs})"
        for task in named
    )
    counts = f"{before} before it, {len(running)} running, {slots} at once"
    lasts = f"a job of {basis}" if basis else f"a job here {in_words(usual)}"
    return Estimate("starts", (left + before * mean) / slots, f"{counts}; {lasts}")


def estimate_end(
    fraction: float, ran: float, task: str, typical: Mapping[str, Typical]
) -> Estimate | None:
    """Estimate when a running job ends: from its pace so far, or from the typical time of its task.

    `fraction`: share of the work done, 0 to 1. `ran`: seconds so far. Returns None where neither
    the pace nor a longer typical time is known.
    """
    if fraction >= _LEAST:
        return Estimate(
            "ends", ran * (1 - fraction) / fraction, f"{fraction:.0%} is done after {in_words(ran)}"
        )
    if task in typical and typical[task].seconds > ran:
        known = typical[task]
        basis = f"the last {known.jobs} jobs of {task} ran {in_words(known.seconds)} (median)"
        return Estimate("ends", known.seconds - ran, basis)
    return None


def in_words(seconds: float) -> str:
    """A duration in a few characters: 4.2s, 12s, 3m12s, 2h05m, 3d04h."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
