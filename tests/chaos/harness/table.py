"""The figures of every fault, for the table at the end."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Row:
    """What became of the jobs that one fault was injected into."""

    fault: str
    pool: str
    jobs: int
    requeued: int = 0
    lost: int = 0
    twice: int = 0
    partial: int = 0
    orphans: int = 0
    slots: int = 0
    delays: list[float] = field(default_factory=list[float])
    note: str = ""
    again: int | None = None
    """Jobs that were notified twice; None where nobody was notified."""
    normal: float | None = None
    """Seconds from the end of the fault until a job submitted then is Running."""


_HEAD = (
    *("fault", "pool", "jobs", "requeued", "lost", "twice", "partial", "orphans", "slots"),
    *("notified twice", "median s", "max s", "normal s", ""),
)


def lines(rows: list[Row]) -> list[str]:
    """The table, in columns. Median and maximum: from a death to the next attempt Running."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(_HEAD))]
    return [
        "  ".join(
            text.ljust(width) if at < 2 or at == len(widths) - 1 else text.rjust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _cells(row: Row) -> tuple[str, ...]:
    counts = (row.jobs, row.requeued, row.lost, row.twice, row.partial, row.orphans, row.slots)
    times = (f"{median(row.delays):.1f}", f"{max(row.delays):.1f}") if row.delays else ("-", "-")
    again = "-" if row.again is None else str(row.again)
    normal = "-" if row.normal is None else f"{row.normal:.1f}"
    return (row.fault, row.pool, *map(str, counts), again, *times, normal, row.note)
