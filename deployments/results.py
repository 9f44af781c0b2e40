"""A job's result, found by the job's id and checked before anyone relies on it."""

import asyncio
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound

from tasks.contracts import Manifest, job_id
from tasks.errors import InvalidPayload, PrefectureError
from tasks.results import local
from tasks.settings import Settings


async def find_result(client: PrefectClient, settings: Settings, job: str) -> Path:
    """The folder of a job's result. `job` is its id, or the id of any attempt at it.

    Raises PrefectureError with the job's state where there is no result.
    """
    try:
        wanted = UUID(job)
    except ValueError:
        raise InvalidPayload(f"'{job}' is not a job id: `prefecture status` shows them") from None
    try:
        run = await client.read_flow_run(wanted)
    except ObjectNotFound:
        run = None
    else:
        wanted = job_id(run.labels, run.id)
        folder = settings.results / str(run.parameters.get("results_directory")) / str(wanted)
        if (folder / local.MANIFEST).is_file():
            return folder
    # The server may be another one by now, or have forgotten the job: the disk has not.
    folder = await asyncio.to_thread(local.find, settings.results, wanted)
    if folder is not None:
        return folder
    if run is None or run.state is None:
        raise PrefectureError(f"no job {wanted} is known here, and no result of it: check the id")
    message = f": {run.state.message}" if run.state.message else ""
    raise PrefectureError(f"job {wanted} has no result: it is {run.state.name}{message}")


async def read_result(folder: Path, to: Path | None) -> Manifest:
    """The manifest of a result, every file checked; copied to a new folder `to` where asked."""
    manifest = await asyncio.to_thread(local.read_manifest, folder)
    if to is None:
        await asyncio.to_thread(local.verify, folder, manifest)
    else:
        await asyncio.to_thread(local.copy, folder, manifest, to)
    return manifest
