"""A flow run as a row of the history."""

import asyncio
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import TypeAdapter, ValidationError

from tasks.contracts import ResultsDirectory, attempt_number, job_id, plain
from tasks.errors import CorruptResult
from tasks.history.outcomes import Row
from tasks.storage.results.interface import ResultsRoot

_WORKER = "prefect.worker.name"  # set by Prefect's workers on each run they take
_OWN_WORKER = "prefecture-"  # what `prefecture up` starts the names of its workers with
_NAME = 128  # characters that the tables have room for
_CAUSE = 1000
_DIRECTORY = TypeAdapter[str](ResultsDirectory)


class RowReader:
    """Makes rows of runs; keeps what it has asked once."""

    def __init__(self, client: PrefectClient, results: ResultsRoot) -> None:
        self._client = client
        self._results = results
        self._tasks: dict[UUID, str] = {}

    async def row(self, run: FlowRun) -> Row:
        """The attempt that a run is. Raises StorageUnavailable while its result cannot be seen."""
        state = run.state_type or StateType.SCHEDULED
        created = plain(run.created or datetime.now(UTC))
        due = plain(run.expected_start_time or created)
        # One that ended before it started has the time of its end in the place of its start.
        started = plain(run.start_time) if run.start_time and run.run_count else None
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
            "state": state.value,
            "cause": None if state not in _CAUSED else " ".join(message.split())[:_CAUSE],
            # A schedule plans its runs days before: it submits each when it is due.
            "submitted": due if run.auto_scheduled else created,
            "due": due,
            "started": started,
            "ended": ended,
            "starts": run.run_count,
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
        """The bytes of the result, where this very run published one."""
        if run.state_type != StateType.COMPLETED:
            return None
        try:
            directory = _DIRECTORY.validate_python(run.parameters.get("results_directory"))
            job = job_id(run.labels, run.id)
            result = await asyncio.to_thread(self._results.find, directory, job)
        except (ValidationError, CorruptResult):
            return None  # whoever wants the result is told; here it is only not counted
        if result is None or result.manifest.flow_run != run.id:
            return None
        return result.manifest.bytes


_FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
_CAUSED = {StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}


def _worker(run: FlowRun) -> str | None:
    name = run.labels.get(_WORKER)
    return None if name is None else str(name)[:_NAME]


def _host(run: FlowRun) -> str | None:
    """The host: of a process it is in its own name, of a worker of ours in the worker's."""
    body, _, number = (run.infrastructure_pid or "").rpartition(":")
    if number.isdigit() and body and "/" not in body:
        return body[:_NAME]
    worker = _worker(run)
    if worker is None or not worker.startswith(_OWN_WORKER):
        return worker  # by docs/guides/several-hosts.md, a worker has its host's name
    return worker.removeprefix(_OWN_WORKER).rpartition("-")[0]
