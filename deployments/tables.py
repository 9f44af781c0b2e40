"""Tables for the terminal: `prefecture status` and `prefecture results`."""

import shlex
from collections.abc import Iterable
from datetime import UTC
from typing import TYPE_CHECKING

from rich import box
from rich.filesize import decimal
from rich.table import Table

from tasks.contracts import AgentReport, Manifest

if TYPE_CHECKING:  # it imports Prefect, which most commands do not need
    from deployments.status import (
        AgentStatus,
        JobStatus,
        QueueStatus,
        Status,
        StrayQueue,
        WorkerStatus,
    )


def status_tables(status: "Status", agent_timeout: float) -> Iterable[Table | str]:
    """Everything that `prefecture status` prints, in order."""
    yield _queues(status.queues)
    for pool in status.paused:
        yield _paused(pool, status.agents)
    yield _workers(status.workers)
    yield _agents(status.agents, agent_timeout)
    yield _jobs(status.jobs)
    if status.scheduled:
        yield _scheduled(status.scheduled)
    for stray in status.strays:
        yield _stray(stray)


def results_table(place: object, manifest: Manifest, note: str) -> Table:
    """The files of a result. `note`: what is said below them."""
    table = _table(f"{manifest.task} · job {manifest.job} · {place}", "file", ">bytes", "sha256")
    for file in manifest.files:
        table.add_row(file.path, f"{file.bytes:,}", file.sha256[:16])
    files = f"{len(manifest.files):,} file{'' if len(manifest.files) == 1 else 's'}"
    until = f", kept until {manifest.expires.astimezone(UTC):%F %T} UTC" if manifest.expires else ""
    table.caption = f"{files}, {decimal(manifest.bytes)}, {note}{until}"
    return table


def seconds(value: float) -> str:
    """A duration in words, such as 4.2 s or 3 min 12 s."""
    return f"{value:.1f} s" if value < 60 else f"{value // 60:.0f} min {value % 60:.0f} s"


def plain_table(title: str, *columns: str) -> Table:
    """A table in the common style; a column whose name starts with '>' is right-aligned."""
    return _table(title, *columns)


def _queues(queues: "list[QueueStatus]") -> Table:
    table = _table("Queues", "pool", "queue", ">waiting", ">running", ">scheduled", ">held")
    for queue in queues:
        counts = (queue.waiting, queue.running, queue.scheduled, queue.held)
        table.add_row(queue.pool, queue.name, *map(str, counts))
    return table


def _workers(workers: "list[WorkerStatus]") -> Table:
    table = _table("Workers", "pool", "worker", "status", "last heartbeat")
    for worker in workers:
        beat = worker.last_heartbeat
        words = [worker.status]
        if worker.drained:
            until = worker.drained_until
            words.append(f"drained, until {until:%F %T} UTC" if until else "drained")
        table.add_row(
            *(worker.pool, worker.name, ", ".join(words)),
            beat.strftime("%F %T UTC") if beat else "",
        )
    return table


def _agents(agents: "list[AgentStatus]", agent_timeout: float) -> Table:
    columns = ("host", "pool", "worker", "health", ">jobs", "intake", ">last report")
    table = _table("Agents", *columns)
    for agent in agents:
        report = agent.report
        health = [f"{check}: {found}" for check, found in sorted(report.failed.items())]
        if agent.ago > agent_timeout:
            health = ["silent: its supervisor, its host or its connection to the server is gone"]
        table.add_row(
            *(report.host, report.pool, report.worker, "\n".join(health) or "healthy"),
            *(str(report.running), _intake(report)),
            f"{seconds(agent.ago)} ago",
        )
    return table


def _intake(report: AgentReport) -> str:
    words = (report.drained and "drained", report.holds_intake and "paused by it")
    return ", ".join(word for word in words if word)


def _jobs(jobs: "list[JobStatus]") -> Table:
    columns = ("job", "task", "queue", ">attempt", "state", ">waited", ">ran")
    table = _table("Last jobs", *columns)
    for job in jobs:
        state = f"{job.state}: {job.message}" if job.message else job.state
        times = (seconds(job.waited), seconds(job.ran))
        table.add_row(str(job.job), job.task, job.queue, str(job.attempt), state, *times)
    return table


def _scheduled(jobs: "list[JobStatus]") -> Table:
    table = _table("Scheduled for later", "job", "task", "queue", "due")
    for job in jobs:
        due = f"{job.due.astimezone(UTC):%F %T} UTC" if job.due else ""
        table.add_row(str(job.job), job.task, job.queue, due)
    return table


def _paused(pool: str, agents: "list[AgentStatus]") -> str:
    holding = [a.report.host for a in agents if a.report.holds_intake and a.report.pool == pool]
    return f"Pool {pool} is paused: waiting jobs do not start; " + (
        f"the agent on {' and '.join(sorted(holding))} resumes it once its checks pass."
        if holding
        else f"resume it with: prefect work-pool resume {pool}"
    )


def _stray(stray: "StrayQueue") -> str:
    runs = ", ".join(str(run.id) for run in stray.runs)
    return (
        f"Queue '{stray.name}' of pool {stray.pool} is not one of Prefecture's: a typo when "
        "submitting creates such a queue, and its jobs run after all others. "
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
            no_wrap=column == "job",  # an id must stay in one piece to be copied
        )
    return table
