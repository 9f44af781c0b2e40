"""a, b, c, e: submit to Running, many jobs through two slots, and a freed slot to Running."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.suite.report import FLOOR, Row
from benchmarks.suite.server import Times
from benchmarks.suite.sides import SLOTS, PrefectSide, Side
from benchmarks.suite.usage import Usage, used

_MIB = 2**20
_IN_A_ROW = 5


def starts(pool: str, sides: Mapping[str, Side], rounds: int) -> list[Row]:
    """a: seconds from submit to Running of one job on an idle system."""
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for who, side in sides.items():
            seconds = side.start()
            if turn:  # the first is a warm-up
                found[who].append(seconds)
    targets = {"stock": 2.5, FLOOR: 1 / 1.25}
    what = f"submit to Running, {pool}"
    return [Row(f"a {pool[:4]}", what, "s", found, target=targets)]


def drains(pool: str, sides: Mapping[str, Side], rounds: int, jobs: int) -> list[Row]:
    """b, c: seconds, CPU time and peak memory for many jobs that are submitted at once."""
    seconds: dict[str, list[float]] = defaultdict(list)
    usages: dict[str, list[Usage]] = defaultdict(list)
    for _ in range(rounds):
        for who, side in sides.items():
            with used() as usage:
                took = side.drain(jobs)
            seconds[who].append(took)
            usages[who].append(usage)
    key = pool[:4]
    target = {"stock": 7, FLOOR: 1 / 0.55} | ({"celery": 1 / 1.1} if pool == "docker" else {})
    rows = [
        Row(f"b {key}", f"{jobs} jobs, {SLOTS} slots, {pool}", "s", seconds,
            target=target),
        Row(f"c {key}", f"CPU of a job, server's part too, {pool}", "s",
            {who: [one.cpu / jobs for one in found] for who, found in usages.items()}),
    ]  # fmt: skip
    if pool == "docker":
        peaks = {who: [peak(one) for one in found] for who, found in usages.items()}
        rows.append(Row(f"c {key}m", "peak memory of a job's container", "MiB", peaks))
    return rows


def freed(pool: str, sides: Mapping[str, PrefectSide], rounds: int) -> list[Row]:
    """e: seconds from the end of a job to Running of the next, one at a time."""
    found = {
        who: [median(gaps(side.one_by_one(_IN_A_ROW))) for _ in range(rounds)]
        for who, side in sides.items()
    }
    return [Row(f"e {pool[:4]}", f"a slot is free to the next Running, {pool}", "s", found)]


def gaps(times: Sequence[Times]) -> list[float]:
    """Seconds from the end of each job to the start of the next."""
    ended = sorted(one.ended for one in times)
    started = sorted(one.running for one in times)[1:]
    return [start - end for end, start in zip(ended, started, strict=False)]


def peak(usage: Usage) -> float:
    """The median of the peak memory of the containers, in MiB."""
    return median(usage.peaks.values() or [0]) / _MIB
