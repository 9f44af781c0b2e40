"""Rows of the benchmark: our figure beside those of the peers, measured in the same run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Literal

OURS = "prefecture"
FLOOR = "floor"


@dataclass(frozen=True)
class Row:
    """One measured quantity, for every peer."""

    key: str
    """The letter of the measurement, and a suffix that makes the key unique."""
    what: str
    unit: str
    figures: Mapping[str, Sequence[float]]
    """The figures of all rounds, by peer; ours first."""
    better: Literal["less", "more"] = "less"
    target: Mapping[str, float] = field(default_factory=dict[str, float])
    """By peer: the ratio that we aim for, as in `ratio`; below 1 we may be worse."""

    def ratio(self, peer: str) -> float:
        """How many times better than a peer we are: the ratio of the medians."""
        ours, theirs = median(self.figures[OURS]), median(self.figures[peer])
        return theirs / ours if self.better == "less" else ours / theirs


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as text, a line for each figure."""
    head = f"{'':6} {'':44} {'':18} {'median':>10} {'spread':>21} {'ours by':>8} {'target':>7}"
    lines = [head.rstrip()]
    for row in rows:
        for place, (who, figures) in enumerate(row.figures.items()):
            first = place == 0
            spread = f"{_short(min(figures))} to {_short(max(figures))}"
            ratio = f"{row.ratio(who):.2f}" if who != OURS and OURS in row.figures else ""
            target = f"{row.target[who]:.2f}" if who in row.target else ""
            missed = " missed" if target and row.ratio(who) < row.target[who] else ""
            lines.append(
                f"{row.key if first else '':6} {row.what if first else '':44} {who:18} "
                f"{_short(median(figures)):>7} {row.unit:4}{spread:>19} {ratio:>8} {target:>7}"
                f"{missed}"
            )
    return lines


def save(path: Path, machine: Mapping[str, object], rows: Sequence[Row]) -> None:
    """Write the rows as JSON, with the figures of every round."""
    found = [
        # A plain dict: asdict cannot copy a defaultdict.
        asdict(replace(row, figures=dict(row.figures)))
        | {"median": {who: median(figures) for who, figures in row.figures.items()}}
        | {"ours_by": {who: row.ratio(who) for who in row.figures if OURS in row.figures}}
        for row in rows
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": found}, indent=2) + "\n")


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
