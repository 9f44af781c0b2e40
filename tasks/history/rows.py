"""Converts flow runs to rows of the history."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import TypeAdapter, ValidationError

from tasks.contracts import (
    DRAINED_LABEL,
    MOVED,
    ResultsDirectory,
    attempt_number,
    job_id,
    plain,
)
from tasks.errors import CorruptResult
from tasks.history.outcomes import Row
from tasks.storage.results.interface import ResultsRoot

_WORKER = "prefect.worker.name"  # set by Prefect's workers on each run they take
_OWN_WORKER = "prefecture-"  # prefix of the names of `prefecture up`'s workers
_NAME = 128  # characters, as in the tables
_CAUSE = 1000
_DIRECTORY = TypeAdapter[str](ResultsDirectory)


class RowReader:
    """Makes rows of runs, and caches the names of flows."""

    def __init__(self, client: PrefectClient, results: ResultsRoot) -> None:
        self._client = client
        self._results = results
        self._tasks: dict[UUID, str] = {}

    async def row(self, run: FlowRun) -> Row:
        """Make the row of a run. Raises StorageUnavailable where S3 does not answer."""
        state = run.state_type or StateType.SCHEDULED
        drained = state == StateType.CRASHED and DRAINED_LABEL in run.labels
        is_moved = drained or run.state_name == MOVED
        created = plain(run.created or datetime.now(UTC))
        due = plain(run.expected_start_time or created)
        # A run that ended before it started has its end time as `start_time`. Prefect does not
        # count the start of a run that was Paused before.
        has_started = bool(run.run_count) or run.start_time != run.end_time
        started = plain(run.start_time) if run.start_time and has_started else None
        ended = plain(run.end_time) if run.end_time and state in _FINAL else None
        message = (run.state and (run.state.message or run.state.name)) or ""
        return {
            "flow_run": str(run.id),
            "job": str(job_id(run.labels, run.id)),
            "number": attempt_number(run.labels),
            "task": (await self._task(run))[:_NAME],
            "name": run.name[:_NAME],
            "queue": (run.work_queue_name or "")[:_NAME],
            "pool": (run.work_pool_name or "")[:_NAME],
            "worker": _worker(run),
            "host": _host(run),
            # A run that was moved to another queue or host has not crashed.
            "state": MOVED.upper() if is_moved else state.value,
            "cause": None if state not in _CAUSED else " ".join(message.split())[:_CAUSE],
            # A schedule creates its runs days before; each counts as submitted when it is due.
            "submitted": due if run.auto_scheduled else created,
            "due": due,
            "started": started,
            "ended": ended,
            "starts": run.run_count or int(started is not None),
            "waited": round(max(0.0, (started - due).total_seconds()), 6) if started else None,
            "ran": round(run.total_run_time.total_seconds(), 6) if started and ended else None,
            "published_bytes": await self._published(run),
            "updated": plain(run.updated or created),
            "checked": datetime.now(UTC),
        }

    async def _task(self, run: FlowRun) -> str:
        if run.flow_id not in self._tasks:
            self._tasks[run.flow_id] = (await self._client.read_flow(run.flow_id)).name
        return self._tasks[run.flow_id]

    async def _published(self, run: FlowRun) -> int | None:
        """Return the bytes of the result; None where this run did not publish it."""
        if run.state_type != StateType.COMPLETED:
            return None
        try:
            directory = _DIRECTORY.validate_python(run.parameters.get("results_directory"))
            job = job_id(run.labels, run.id)
            result = await asyncio.to_thread(self._results.find, directory, job)
        except (ValidationError, CorruptResult):
            return None  # not counted; a reader of the result gets the error
        if result is None or result.manifest.flow_run != run.id:
            return None
        return result.manifest.bytes


_FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
_CAUSED = {StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}


def _worker(run: FlowRun) -> str | None:
    name = run.labels.get(_WORKER)
    return None if name is None else str(name)[:_NAME]


def _host(run: FlowRun) -> str | None:
    """Return the host of a run: from the id of its process, or from its worker's name."""
    host, _, number = (run.infrastructure_pid or "").rpartition(":")
    if number.isdigit() and host and "/" not in host:
        return host[:_NAME]
    worker = _worker(run)
    if worker is None or not worker.startswith(_OWN_WORKER):
        return worker  # a worker with its host's name, as in docs/guides/several-hosts.md
    return worker.removeprefix(_OWN_WORKER).rpartition("-")[0]
