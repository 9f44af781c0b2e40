"""The outcome of a job, derived from its attempts."""

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
"""A row of a table, by column name."""

_OUTCOMES = {
    "COMPLETED": "completed",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "DELETED": "deleted",
}
OPEN = "open"


def job_row(attempts: Sequence[Row]) -> tuple[Row, Row | None]:
    """Make the row of a job from its attempts, and return the deciding one; None while it is open.

    The attempt that completed first decides, if any; else the last one does. A crash decides
    nothing: another attempt follows, or the supervisor sets the last one to Failed.
    """
    ordered = sorted(attempts, key=lambda row: (row["number"], row["submitted"], row["flow_run"]))
    first, last = ordered[0], ordered[-1]
    completed = [row for row in ordered if row["state"] == "COMPLETED"]
    decides = min(completed, key=lambda row: (row["ended"], row["number"]), default=None)
    if decides is None and last["state"] in _OUTCOMES:
        decides = last
    begun = [row["started"] for row in ordered if row["started"] is not None]
    published = [row["published_bytes"] for row in ordered if row["published_bytes"] is not None]
    job: Row = {
        "job": first["job"],
        "task": first["task"],
        "name": first["name"],
        "queue": first["queue"],
        "outcome": OPEN if decides is None else _OUTCOMES[decides["state"]],
        "submitted": first["submitted"],
        "started": min(begun, default=None),
        "ended": None if decides is None else decides["ended"],
        "attempts": max(len(ordered), last["number"]),
        "starts": sum(row["starts"] for row in ordered),
        "waited": first["waited"],
        "ran": round(sum(row["ran"] or 0.0 for row in ordered), 6),
        "published_bytes": published[0] if published else None,
    }
    return job, decides
