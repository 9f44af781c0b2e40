"""The usage report: one self-contained HTML file, and its charts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, FileSystemLoader

from tasks.history.outcomes import Row
from tasks.history.queries import Answer, summed
from tasks.history.reports import charts, shapes

_TEMPLATE = "report.html.jinja"
_STEP = 1000.0
_NOISY = timedelta(days=3)  # over longer spans, shares of single hours are noise


@dataclass(frozen=True)
class Chart:
    """One card of the report: a title, a caption, drawings."""

    name: str
    title: str
    caption: str
    svgs: list[str]


@dataclass(frozen=True)
class Report:
    """The report to publish and to show in the UI."""

    html: str
    charts: list[Chart]
    summary: Row


def make_report(
    answer: Answer, attempts: pl.DataFrame, period: str, slots: int | None, disk: tuple[int, int],
    minutes: pl.DataFrame | None = None,
) -> Report:  # fmt: skip
    """Draw the charts and render the page.

    `disk`: used bytes and size of the disk of the results root; zeros where not known. `minutes`:
    the answer's throughput by minute, for charts of the first hours.
    """
    drawn = _draw(answer, attempts, period, slots, minutes)
    total = _total(answer)
    page = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page.filters |= {"seconds": seconds, "bytes": size, "percent": percent}
    html = page.get_template(_TEMPLATE).render(
        answer=answer, charts=drawn, total=total, disk=disk, period=period
    )
    return Report(html, drawn, total)


def seconds(value: float | None) -> str:
    """Format a duration for readers; "-" for None."""
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:.0f} min"


def size(value: float) -> str:
    """Format a number of bytes for readers."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if value < _STEP or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= _STEP
    raise AssertionError


def percent(value: float | None) -> str:
    """Format a share, 0 to 1, as a percentage; "-" for None."""
    return "-" if value is None else f"{value:.1%}"


def _draw(
    answer: Answer, attempts: pl.DataFrame, made_of: str, slots: int | None,
    minutes: pl.DataFrame | None,
) -> list[Chart]:  # fmt: skip
    period = shapes.grain(answer, made_of)
    shown = answer
    if period == "minute":
        if minutes is None or not len(minutes):
            period = made_of
        else:
            shown = replace(answer, periods=minutes)
    periods = answer.periods.with_columns(pl.lit("").alias("task"))
    by_queue = pl.DataFrame(summed(periods, ("queue",)), infer_schema_length=None)
    begin = answer.begin if period == made_of else shapes.begin_of(shown)
    if period == "day":
        begin = begin.replace(hour=0)
    busy = shapes.busy(attempts, period, begin, answer.asked)
    line = f"the line is all {slots} slots" if slots else "set PREFECTURE_SLOTS for a line at all"
    noisy = period == "hour" and answer.asked - answer.begin > _NOISY
    coarse = "day" if noisy else period
    made: list[tuple[str, str, str, pl.DataFrame, Callable[[pl.DataFrame], list[str]]]] = [
        ("throughput", "Throughput", f"Jobs completed in each {period}, by task.",
         shapes.completed(shown, period), lambda data: [charts.throughput(data, period)]),
        ("utilisation", "Slots in use", f"Jobs at work, averaged over each {period}; {line}.",
         busy, lambda data: [charts.utilisation(data, period, slots)]),
        ("durations", "Waiting and running", "By queue: from due to the first start, and from "
         "there to the end. The dot is the median, the bar ends at the 95th percentile.", by_queue,
         lambda data: [charts.durations(data, measure) for measure in ("waited", "ran")]),
        ("outcomes", "Outcomes", "Of the jobs that ended, the share that succeeded; of the "
         "attempts, the shares that crashed and that were retries.",
         shapes.rates(shown, coarse), lambda data: [charts.outcomes(data, coarse)]),
        ("storage", "Storage", "Bytes published since the start of this report, by task.",
         shapes.published(shown, period), lambda data: [charts.storage(data, period)]),
    ]  # fmt: skip
    if made_of == "hour" and period != "minute":
        made.insert(
            2,
            ("busiest", "Busiest hours", "Jobs received, by weekday and hour, in UTC.",
             shapes.received_by_weekday(answer), lambda data: [charts.busiest(data)]),
        )  # fmt: skip
    return [
        Chart(name, title, caption, draw(data) if len(data) else [])
        for name, title, caption, data, draw in made
    ]


def _total(answer: Answer) -> dict[str, Any]:
    """Return totals of all tasks and queues, and shares of them."""
    parts = answer.periods.with_columns(pl.lit("").alias("task"), pl.lit("").alias("queue"))
    rows = summed(parts, ("task", "queue"))
    row: dict[str, Any] = rows[0] if rows else dict.fromkeys(answer.periods.columns, 0)
    per_job = answer.of_all_tasks.sum().row(0, named=True) if len(answer.of_all_tasks) else {}
    ends = row["completed"] + row["failed"]
    return {
        name: row[name]
        for name in ("received", "started", "completed", "failed", "crashed", "cancelled")
    } | {
        "published_bytes": row["published_bytes"],
        "waited_p50": row.get("waited_p50"),
        "waited_p95": row.get("waited_p95"),
        "ran_p50": row.get("ran_p50"),
        "success": row["completed"] / ends if ends else None,
        "crash": row["crashed"] / row["started"] if row["started"] else None,
        "again": (per_job["attempts"] - per_job["jobs"]) / per_job["attempts"] if per_job else None,
        "average_starts": per_job["starts"] / per_job["jobs"] if per_job else None,
        "pending": sum(part["pending"] for part in answer.backlog),
        "running": sum(part["running"] for part in answer.backlog),
        "oldest_wait": max((part["oldest_wait"] for part in answer.backlog), default=0.0),
        "published_ever": answer.published_ever,
    }
