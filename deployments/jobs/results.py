"""A job's result, found by the job's id and checked before anyone relies on it."""

import asyncio
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


async def find_result(client: PrefectClient, settings: Settings, job: str) -> Result:
    """A job's result; its text says where it stands.

    `job` is its id, that of any attempt at it, or an unambiguous prefix. Raises PrefectureError
    where there is no result: with the job's state, or, if that is Completed, with where its result
    should be looked for.
    """
    wanted = await resolve_job(client, job)
    root = open_results(settings)
    tried = await attempts(client, wanted)
    if tried:
        wanted = job_id(tried[-1].labels, tried[-1].id)
        result = await standing_result(root, tried[-1])
        if result is not None:
            return result
    # The server may be another one by now, or have forgotten the job: the storage has not.
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
    """What to say of a job that has completed, and whose result is not in the results root here."""
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
    """The result of the job that a run is an attempt at, where it stands in its own place.

    Raises CorruptResult, and StorageUnavailable while it cannot be known.
    """
    try:
        directory = TypeAdapter[str](ResultsDirectory).validate_python(
            run.parameters.get("results_directory")
        )
    except ValidationError:
        return None  # no name for one: nothing can be published there
    return await asyncio.to_thread(root.find, directory, job_id(run.labels, run.id))


async def read_result(result: Result, to: Path | None) -> Manifest:
    """The manifest of a result, every file checked; copied to a new folder `to` where asked."""
    if to is None:
        await asyncio.to_thread(result.verify)
    else:
        await asyncio.to_thread(result.copy, to)
    return result.manifest
