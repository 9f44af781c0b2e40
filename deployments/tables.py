"""Tables for the terminal."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from rich import box
from rich.filesize import decimal
from rich.table import Table

from deployments.status import JobStatus, QueueStatus, Status, StrayQueue, WorkerStatus
from tasks.contracts import Manifest


def status_tables(status: Status) -> Iterable[Table | str]:
    """Everything that `prefecture status` prints, in order."""
    yield _queues(status.queues)
    yield _workers(status.workers)
    yield _jobs(status.jobs)
    for stray in status.strays:
        yield _stray(stray)


def results_table(folder: Path, manifest: Manifest) -> Table:
    """The files of a result."""
    table = _table(f"{manifest.task} · job {manifest.job} · {folder}", "file", ">bytes", "sha256")
    for file in manifest.files:
        table.add_row(file.path, f"{file.bytes:,}", file.sha256[:16])
    table.caption = f"{len(manifest.files):,} files, {decimal(manifest.bytes)}, all checked"
    return table


def seconds(value: float) -> str:
    """A duration for people."""
    return f"{value:.1f} s" if value < 60 else f"{value // 60:.0f} min {value % 60:.0f} s"


def plain_table(title: str, *columns: str) -> Table:
    """A table in our one style; a column whose name starts with '>' is aligned to the right."""
    return _table(title, *columns)


def _queues(queues: list[QueueStatus]) -> Table:
    table = _table("Queues", "pool", "queue", ">waiting", ">running")
    for queue in queues:
        table.add_row(queue.pool, queue.name, str(queue.waiting), str(queue.running))
    return table


def _workers(workers: list[WorkerStatus]) -> Table:
    table = _table("Workers", "pool", "worker", "status", "last heard of")
    for worker in workers:
        heard = worker.last_heartbeat
        table.add_row(
            worker.pool, worker.name, worker.status, heard.strftime("%F %T UTC") if heard else ""
        )
    return table


def _jobs(jobs: list[JobStatus]) -> Table:
    table = _table("Last jobs", "job", "task", "queue", "state", ">waited", ">ran")
    for job in jobs:
        state = f"{job.state}: {job.message}" if job.message else job.state
        attempt = f" (attempt {job.attempt})" if job.attempt > 1 else ""
        table.add_row(
            f"{job.job}{attempt}", job.task, job.queue, state, seconds(job.waited), seconds(job.ran)
        )
    return table


def _stray(stray: StrayQueue) -> str:
    runs = ", ".join(str(run.id) for run in stray.runs)
    return (
        f"Queue '{stray.name}' of pool {stray.pool} is none of ours: a typo when submitting makes "
        "such a queue, and its jobs run after all others. "
        + (f"Its last jobs: {runs}. " if runs else "It is empty. ")
        + "When its jobs have ended, and not before, remove it with: prefect work-queue delete "
        + f"{shlex.quote(stray.name)} --pool {stray.pool}"
    )


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(
            column.lstrip(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
            no_wrap=column == "job",  # an id is there to be copied
        )
    return table
