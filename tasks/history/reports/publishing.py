"""Makes and publishes a usage report of the last days."""

import asyncio
import functools
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.client.orchestration import PrefectClient

from tasks.contracts import Receipt
from tasks.history.database import open_history
from tasks.history.queries import Answer, Query, ask, by_minute, read_attempts
from tasks.history.reports.page import Report, make_report
from tasks.history.reports.shapes import grain
from tasks.history.reports.showing import show
from tasks.runtime.compute_task import off_the_loop, open_job
from tasks.settings import Settings

DIRECTORY = "reports"
"""The results directory that reports are published in."""
NEWEST = "latest"
"""The name of a link to the newest report, where results are on a disk."""

_FILE = "report.html"


async def publish_report(client: PrefectClient, settings: Settings, days: int) -> Receipt:
    """Make a report, publish it as a result, show it in the UI, and remove old reports.

    Raises OperatorError where there is no history.
    """
    report, answer = await asyncio.to_thread(_make, settings, days)
    async with open_job(DIRECTORY) as job:
        (job.stage.files / _FILE).write_text(report.html)
        receipt = await job.publish(report.summary, f"The last {days} days, to read in a browser.")
        task, root = job.task, job.results
    if isinstance(settings.results, Path):
        _link(settings.results / DIRECTORY, str(receipt.job))
    await show(client, report, answer)
    # Last, when the newest report is published and linked.
    before = datetime.now(UTC) - timedelta(days=settings.history_days)
    old = functools.partial(root.remove_old, DIRECTORY, task, before)
    await off_the_loop(root, "remove old reports", old)
    return receipt


def _make(settings: Settings, days: int) -> tuple[Report, Answer]:
    query = Query(datetime.now(UTC) - timedelta(days=days))
    with open_history(settings) as history, history.reading() as connection:
        answer = ask(connection, query)
        attempts = read_attempts(connection, query)
        few = grain(answer, query.period) == "minute"
        minutes = by_minute(connection, query) if few else None
    disk = (0, 0)
    if isinstance(settings.results, Path):
        usage = shutil.disk_usage(settings.results)
        disk = (usage.used, usage.total)
    report = make_report(answer, attempts, query.period, settings.slots, disk, minutes)
    return report, answer


def _link(folder: Path, newest: str) -> None:
    """Point the link to the newest report. Replaced atomically, so that it always exists."""
    made = folder / f".{NEWEST}.{newest}"
    made.symlink_to(newest)
    made.replace(folder / NEWEST)
