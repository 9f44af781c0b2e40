"""Finds a job's result by the job's id, and checks it."""

import asyncio
from functools import partial
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import EventFilter
from pydantic import TypeAdapter, ValidationError

from deployments.jobs.attempts import attempts
from deployments.jobs.queries.short_ids import resolve_job
from tasks.contracts import Manifest, ResultsDirectory, attempt_number, job_id
from tasks.errors import PrefectureError
from tasks.runtime.events import JOB_RESOURCE, JobCompleted
from tasks.settings import Settings
from tasks.storage.results.interface import Result, ResultsRoot
from tasks.storage.results.opening import open_results
from tasks.storage.retention.opening import open_retention


async def find_result(client: PrefectClient, settings: Settings, job: str) -> Result:
    """Find the result of a job. `str(result)` is its location.

    `job` is its id, that of any attempt at it, or an unambiguous prefix. Raises ResultExpired
    where it was removed, and PrefectureError where there is none: with the job's state, or, if that
    is Completed, with the location at which it was published.
    """
    wanted = await resolve_job(client, job)
    root = open_results(settings)
    tried = await attempts(client, wanted)
    if tried:
        wanted = job_id(tried[-1].labels, tried[-1].id)
        result = await standing_result(root, tried[-1])
        if result is not None:
            return result
    retention = open_retention(settings)
    if (removed := await asyncio.to_thread(retention.removed, wanted)) is not None:
        raise removed.error()
    # The job may be deleted, or the server replaced, while the result is still in the storage.
    result = await asyncio.to_thread(root.search, wanted)
    if result is not None:
        return result
    state = tried[-1].state if tried else None
    if decisive := [run for run in tried if run.state_type is StateType.COMPLETED]:
        raise PrefectureError(await _elsewhere(client, settings, wanted, decisive[0]))
    if state is None:
        raise PrefectureError(f"no job {wanted} is known here, and no result of it: check the id")
    number = attempt_number(tried[-1].labels)
    which = "it" if number == 1 else f"attempt {number}"
    message = f": {state.message}" if state.message else ""
    raise PrefectureError(f"job {wanted} has no result: {which} is {state.name}{message}")


async def _elsewhere(
    client: PrefectClient, settings: Settings, job: UUID, completed: FlowRun
) -> str:
    """The error message for a completed job whose result is not in this results root."""
    page = await client.read_events(
        EventFilter.model_validate(
            {
                "event": {"name": [JobCompleted.name_of_event]},
                "resource": {"id": [f"{JOB_RESOURCE}{job}"]},
                "occurred": {"since": (completed.created or completed.expected_start_time)},
            }
        ),
        limit=1,
    )
    published = (
        f", and was published at {page.events[0].payload['location']}" if page.events else ""
    )
    return (
        f"job {job} has completed{published}, but the results root here, {settings.results}, has "
        "no result of it: set PREFECTURE_RESULTS_ROOT or PREFECTURE_HOME to what its worker has, "
        "unless the result was deleted"
    )


async def standing_result(root: ResultsRoot, run: FlowRun) -> Result | None:
    """The result of a run's job in the job's results directory; None where there is none.

    Raises CorruptResult, and StorageUnavailable while the storage does not answer.
    """
    try:
        directory = TypeAdapter[str](ResultsDirectory).validate_python(
            run.parameters.get("results_directory")
        )
    except ValidationError:
        return None  # an invalid name: nothing can be published there
    return await asyncio.to_thread(root.find, directory, job_id(run.labels, run.id))


async def read_result(result: Result, to: Path | None) -> Manifest:
    """Check every file of a result, or copy it to a new folder `to`. Returns its manifest."""
    work = result.verify if to is None else partial(result.copy, to)

    def read() -> None:
        with result.reading():
            work()

    await asyncio.to_thread(read)
    return result.manifest
