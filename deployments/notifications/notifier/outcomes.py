"""The final event of a job, computed from its attempts and its result."""

from collections.abc import Sequence
from typing import Any

from prefect.client.schemas.objects import FlowRun, StateType

from deployments.jobs.results import standing_result
from deployments.notifications.schema import JobEnd
from tasks.contracts import Manifest, attempt_number
from tasks.errors import CorruptResult
from tasks.runtime.events import JobCancelled, JobCompleted, JobFailed, about
from tasks.settings import Settings
from tasks.storage.results.opening import open_results

_MAX_REASON = 1000  # characters
_NO_RESULT = "the run is Completed, but the job has no result: run the job again"


def is_superseded(run: FlowRun, attempts: Sequence[FlowRun]) -> bool:
    """Whether a later attempt decides the job instead of this one."""
    return attempt_number(run.labels) < attempt_number(attempts[-1].labels)


async def published(settings: Settings, run: FlowRun) -> tuple[Manifest, str] | None:
    """The manifest and the location of the published result of a job; None where there is none.

    Raises CorruptResult where the manifest is damaged, and StorageUnavailable where the results
    root cannot be read.
    """
    result = await standing_result(open_results(settings), run)
    return None if result is None else (result.manifest, result.location)


async def outcome(
    settings: Settings,
    task: str,
    run: FlowRun,
    attempts: Sequence[FlowRun],
    revision: int = 1,
    *,
    early: bool,
) -> JobEnd | None:
    """The final event of the job that `run`, one of its attempts, has decided.

    `revision`: 1 for the first final state, one more for each after a retry in Prefect's UI. None
    where the run is Completed, no result is visible, and `early` says that one may still appear.
    """
    assert run.state is not None
    first = attempts[0]
    due, begun = first.expected_start_time, first.start_time
    known: dict[str, Any] = about(run, task) | {
        "ended": run.state.timestamp,
        "revision": revision,
        "attempts": max(len(attempts), attempt_number(run.labels)),
        "waited": max(0.0, (begun - due).total_seconds()) if due and begun else 0.0,
        "ran": sum(attempt.total_run_time.total_seconds() for attempt in attempts),
    }
    reason = one_line(run.state.message or run.state.name or "")
    if run.state.type == StateType.CANCELLED:
        return JobCancelled(**known, reason=reason)
    if run.state.type == StateType.FAILED:
        return JobFailed(**known, reason=reason)
    try:
        result = await published(settings, run)
    except CorruptResult as error:
        return JobFailed(**known, reason=one_line(str(error)))
    if result is None:
        return None if early else JobFailed(**known, reason=_NO_RESULT)
    manifest, location = result
    return JobCompleted(**known, location=location, files=len(manifest.files), bytes=manifest.bytes)


def one_line(text: str) -> str:
    """A message on one line, cut at 1000 characters."""
    line = " ".join(text.split())
    return line if len(line) <= _MAX_REASON else line[: _MAX_REASON - 1] + "…"
