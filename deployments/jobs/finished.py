"""Restarts and deletes jobs that have ended."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from deployments.jobs.attempts import OUTCOMES, attempts, known_attempts
from deployments.jobs.dependencies.after import EVERYTHING, Rights, prepare
from deployments.jobs.queries.short_ids import resolve_job
from deployments.jobs.records import RESTART_KEY
from deployments.jobs.request import has_passed
from deployments.jobs.results import find_result
from deployments.jobs.submit import submit_or_find
from tasks.contracts import Manifest, job_id
from tasks.errors import InvalidPayload, PrefectureError
from tasks.settings import Settings
from tasks.storage.retention.opening import open_retention
from tasks.storage.retention.records import KeptResult


async def restart(
    client: PrefectClient, job: str, key: str | None = None, rights: Rights = EVERYTHING
) -> UUID:
    """Submit a job with the same payload, directory, queue, limits, tags and name. Returns its id.

    `job` is a job's id, that of any attempt at it, or an unambiguous prefix. With a `key`, calls
    for the same job submit it once. Its sources are checked as those of a new job, and where it was
    to start at a time that has passed, it starts at once. Raises PrefectureError where it has not
    ended, InvalidPayload where its deployment is gone or a source cannot be read, and the errors of
    the rights.
    """
    runs = await _ended(client, job, "cancel it first, or submit the same again")
    first = runs[0]
    try:
        if first.deployment_id is None:
            raise ObjectNotFound(ValueError("no deployment"))
        deployment = await client.read_deployment(first.deployment_id)
    except ObjectNotFound:
        raise InvalidPayload(
            f"job {job} has no deployment any more: `prefecture apply` puts them on the server, "
            "then submit it again"
        ) from None
    payload: dict[str, Any] = dict(first.parameters.get("payload") or {})
    if has_passed(payload):
        del payload["start"]
    body = {
        "name": first.name,
        "parameters": {**first.parameters, "payload": payload},
        "tags": first.tags,
        "job_variables": first.job_variables or {},
        "idempotency_key": f"{RESTART_KEY}{key or uuid4()}",
    }
    try:
        (prepared,) = await prepare(client, [payload], deployment, rights)
        after, may_exist = prepared.dependencies, key is not None
        new = await submit_or_find(client, deployment, body, after, may_exist=may_exist)
    except InvalidPayload as error:
        raise InvalidPayload(f"job {job_id(first.labels, first.id)}: {error}") from error
    return new.id


async def delete(client: PrefectClient, job: str) -> str:
    """Delete all attempts at a job from the server. Returns a message. Its results stay.

    Raises PrefectureError where it has not ended.
    """
    runs = await _ended(client, job, "cancel it first")
    # The first attempt comes last: the job is found by it, should the deletion be interrupted.
    for run in reversed(runs):
        await client.delete_flow_run(run.id)
    name = job_id(runs[-1].labels, runs[-1].id)
    return f"job {name} is deleted; what it has published stays"


async def delete_result(client: PrefectClient, settings: Settings, job: str) -> Manifest:
    """Delete the result of a job from the storage; the job stays. Returns its manifest.

    Raises PrefectureError where the job has not ended, has no result, or somebody reads it.
    """
    wanted = await resolve_job(client, job)
    if await attempts(client, wanted):
        await _ended(client, str(wanted), "cancel it first")
    found = await find_result(client, settings, str(wanted))
    place = found.location.removeprefix(str(settings.results)).strip("/")
    kept = KeptResult.of(place, found.manifest)
    retention = open_retention(settings)
    if not await asyncio.to_thread(retention.remove, kept, "it was deleted"):
        raise PrefectureError(f"the result of job {wanted} is being fetched: delete it later")
    return found.manifest


async def _ended(client: PrefectClient, job: str, cure: str) -> list[FlowRun]:
    runs = await known_attempts(client, await resolve_job(client, job))
    last = runs[-1]
    if last.state_type not in OUTCOMES:
        state = last.state_name or "unknown"
        raise PrefectureError(f"job {job_id(last.labels, last.id)} is {state}: {cure}")
    return runs
