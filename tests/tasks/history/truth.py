"""The same figures as the history's, computed another way: plain Python over every attempt."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from math import ceil
from typing import Any

Row = dict[str, Any]
Key = tuple[str, datetime, str, str]

STARTS: dict[str, Callable[[datetime], datetime]] = {
    "minute": lambda at: at.replace(second=0, microsecond=0),
    "hour": lambda at: at.replace(minute=0, second=0, microsecond=0),
    "day": lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0),
    "week": lambda at: STARTS["day"](at) - timedelta(days=at.isoweekday() - 1),
    "month": lambda at: STARTS["day"](at).replace(day=1),
}
OUTCOMES = {"COMPLETED": "completed", "FAILED": "failed", "CANCELLED": "cancelled"}


def nearest_rank(values: Iterable[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[ceil(len(ordered) * percent / 100) - 1]


def deciding(rows: Iterable[Row]) -> dict[str, Row]:
    """The attempt that decided each job that is decided."""
    jobs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        jobs[row["job"]].append(row)
    found: dict[str, Row] = {}
    for job, tried in jobs.items():
        completed = [row for row in tried if row["state"] == "COMPLETED"]
        if completed:
            found[job] = min(completed, key=lambda row: (row["ended"], row["number"]))
            continue
        last = max(tried, key=lambda row: row["number"])
        if last["state"] in OUTCOMES:
            found[job] = last
    return found


def _key(row: Row, period: str, time: str) -> Key:
    return period, STARTS[period](row[time]), row["task"], row["queue"]


def throughput(rows: list[Row]) -> dict[Key, Row]:
    decides = deciding(rows)
    counts: dict[Key, Row] = defaultdict(lambda: defaultdict[str, Any](int))
    waited: dict[Key, list[float]] = defaultdict(list)
    ran: dict[Key, list[float]] = defaultdict(list)
    for row in rows:
        for period in STARTS:
            if row["number"] == 1:
                counts[_key(row, period, "submitted")]["received"] += 1
            if row["started"]:
                begun = _key(row, period, "started")
                counts[begun]["started"] += 1
                waited[begun].append(row["waited"])
            if row["ended"] and row["state"] != "DELETED":
                over = _key(row, period, "ended")
                counts[over]["published_bytes"] += row["published_bytes"] or 0
                if row["state"] == "CRASHED":
                    counts[over]["crashed"] += 1
                elif decides.get(row["job"]) is row:
                    counts[over][OUTCOMES[row["state"]]] += 1
                if row["ran"] is not None:
                    ran[over].append(row["ran"])
    found: dict[Key, Row] = {}
    for key in counts.keys() | waited.keys() | ran.keys():
        found[key] = dict(counts[key])
        for name, values in (("waited", waited[key]), ("ran", ran[key])):
            if values:
                found[key][f"{name}_total"] = sum(values)
                found[key][f"{name}_mean"] = sum(values) / len(values)
                for percent in (50, 95, 99):
                    found[key][f"{name}_p{percent}"] = nearest_rank(values, percent)
        found[key]["ran"] = len(ran[key])
    return found


def takes(rows: list[Row]) -> dict[tuple[str, datetime, str], tuple[int, int, int]]:
    """By period, start and task the jobs that ended, their attempts and their starts."""
    found: dict[tuple[str, datetime, str], tuple[int, int, int]] = {}
    for job, row in deciding(rows).items():
        tried = [other for other in rows if other["job"] == job]
        starts = sum(other["starts"] for other in tried)
        ever = datetime.fromtimestamp(0, row["ended"].tzinfo)
        for task in (row["task"], "all"):
            keys = [(p, s(row["ended"]), task) for p, s in STARTS.items() if p != "minute"]
            for key in [*keys, ("ever", ever, task)]:
                before = found.get(key, (0, 0, 0))
                found[key] = (before[0] + 1, before[1] + len(tried), before[2] + starts)
    return found
