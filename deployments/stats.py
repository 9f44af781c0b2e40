"""The output of `prefecture stats`: tables for the terminal, and JSON."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import yaml
from rich.filesize import decimal
from rich.table import Table

from deployments.pools import TREE
from deployments.tables import plain_table, seconds
from tasks.contracts import PLATFORM_POOL
from tasks.errors import InvalidPayload
from tasks.history.queries import Answer

_COUNTS = ("received", "started", "completed", "failed", "crashed", "cancelled")
_TIMES = ("waited_p50", "waited_p95", "ran_p50", "ran_p95")


def check_task(task: str, counted: Iterable[str]) -> None:
    """Raise InvalidPayload where a task is neither declared nor in the run history.

    `counted`: the tasks in the run history.
    """
    known = {*counted, *declared_tasks()}
    if task not in known:
        raise InvalidPayload(
            f"there is no compute task '{task[:80]}': the run history may have "
            f"{', '.join(sorted(known))}"
        )


def declared_tasks() -> set[str]:
    """The compute tasks that prefect.yaml declares."""
    manifest: dict[str, Any] = yaml.safe_load((TREE / "prefect.yaml").read_text())
    return {
        str(entry["entrypoint"]).rpartition(":")[2].replace("_", "-")
        for entry in manifest["deployments"]
        if entry["work_pool"]["name"] != PLATFORM_POOL
    }


def stats_tables(answer: Answer) -> Iterable[Table | str]:
    """Everything that `prefecture stats` prints, in order."""
    yield _throughput(answer)
    yield _backlog(answer)
    yield _attempts(answer)
    for title, jobs in (("Slowest jobs", answer.slowest), ("Most tried", answer.most_requeued)):
        if jobs:
            yield _jobs(title, jobs)


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON."""
    parts = {
        "since": answer.begin,
        "asked": answer.asked,
        "throughput": answer.throughput,
        "backlog": answer.backlog,
        "attempts_per_task": answer.attempts_per_task,
        "slowest": answer.slowest,
        "most_requeued": answer.most_requeued,
    }
    return {name: _plain(value) for name, value in parts.items()}


def _throughput(answer: Answer) -> Table:
    columns = ("task", "queue", *(f">{name}" for name in _COUNTS))
    columns += (">waited p50", ">p95", ">ran p50", ">p95", ">published")
    table = plain_table(f"Since {answer.begin:%F %H:%M} UTC", *columns)
    for row in answer.throughput:
        counts = [f"{row[name]:,}" for name in _COUNTS]
        times = ["" if row[name] is None else seconds(row[name]) for name in _TIMES]
        table.add_row(row["task"], row["queue"], *counts, *times, decimal(row["published_bytes"]))
    if not answer.throughput:
        table.caption = "nothing has happened"
    return table


def _backlog(answer: Answer) -> Table:
    taken = [row["taken"] for row in answer.backlog]
    when = f" at {taken[0]:%F %T} UTC" if taken else ""
    table = plain_table(f"Backlog{when}", "queue", ">pending", ">running", ">oldest wait")
    for row in answer.backlog:
        counts = (f"{row['pending']:,}", f"{row['running']:,}")
        table.add_row(row["queue"], *counts, seconds(row["oldest_wait"]))
    return table


def _attempts(answer: Answer) -> Table:
    table = plain_table("Starts of a job", "task", ">jobs", ">attempts", ">starts", ">average")
    for row in answer.attempts_per_task:
        counts = [f"{row[name]:,}" for name in ("jobs", "attempts", "starts")]
        table.add_row(row["task"], *counts, f"{row['average_starts']:.2f}")
    return table


def _jobs(title: str, jobs: list[dict[str, Any]]) -> Table:
    table = plain_table(title, "job", "task", "queue", "outcome", ">attempts", ">ran")
    for job in jobs:
        table.add_row(
            *(job["job"], job["task"], job["queue"], job["outcome"], str(job["attempts"])),
            seconds(job["ran"]),
        )
    return table


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list):
        return [{name: _plain(part) for name, part in row.items()} for row in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]  # rows
    return value
