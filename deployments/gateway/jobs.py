"""Routes for jobs and compute tasks."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Request
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from deployments.gateway.errors import PAUSE
from deployments.gateway.quotas import JobQuota
from deployments.gateway.requests import (
    JobRequest,
    JobsRequest,
    Me,
    Message,
    MoveRequest,
    Submitted,
    SubmittedMany,
    WhereQuery,
)
from deployments.gateway.secret_names import check_secrets
from deployments.gateway.source_names import check_sources
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.users.access import Caller, allowed
from deployments.gateway.users.tokens import Scope
from deployments.jobs import bulk, cancel, finished, hold, move, submit
from deployments.jobs.attempts import attempts
from deployments.jobs.dependencies.after import Rights
from deployments.jobs.queries import catalog
from deployments.jobs.queries.explain import explain
from deployments.jobs.queries.filters import is_in_pool_of_jobs, is_job
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.records import ComputeTask, Explanation, Listing
from tasks.errors import ServerUnavailable
from tasks.settings import Settings

_OK, _CREATED, _NOT_FOUND, _UNAVAILABLE = 200, 201, 404, 503
CANCEL_TIME = 30.0
"""Seconds until the server has noted that a job is to be cancelled."""

router = APIRouter()


async def _client(request: Request) -> PrefectClient:
    return request.app.state.client


async def _settings(request: Request) -> Settings:
    return request.app.state.settings


async def _uploads(request: Request) -> Uploads:
    return request.app.state.uploads


Client = Annotated[PrefectClient, Depends(_client)]
InForce = Annotated[Settings, Depends(_settings)]
"""The settings of the gateway."""
InUploads = Annotated[Uploads, Depends(_uploads)]
"""The files of users."""
Anyone = Annotated[Caller, Depends(allowed())]
Submitter = Annotated[Caller, Depends(allowed(Scope.SUBMIT))]
Reader = Annotated[Caller, Depends(allowed(Scope.READ_OWN))]


def rights_of(
    client: PrefectClient, caller: Caller, uploads: Uploads, settings: Settings
) -> Rights:
    """What a user may name in a request."""
    return Rights(
        f"{caller.token.user}:",
        partial(find_visible, client, caller),
        partial(check_sources, caller, uploads, settings.places_of_sources),
    )


async def _rights(caller: Submitter, client: Client, uploads: InUploads, given: InForce) -> Rights:
    return rights_of(client, caller, uploads, given)


InRights = Annotated[Rights, Depends(_rights)]
"""What a user may name in a request."""


@router.get("/me")
async def me(caller: Anyone) -> Me:
    """The user of the token, and what it allows."""
    return Me.of(caller.token)


@router.get("/tasks")
async def tasks(_: Anyone, client: Client) -> list[ComputeTask]:
    """All compute tasks: their payloads' fields and JSON schema, and an example of each."""
    return await catalog.list_tasks(client)


@router.post("/jobs", status_code=_CREATED)
async def submit_job(
    caller: Submitter, client: Client, quota: JobQuota, rights: InRights, request: JobRequest
) -> Submitted:
    """Submit a job."""
    terms = request.terms(caller.token)
    await check_secrets(client, caller, [request.payload])
    await quota.check(client, caller, 1, key=request.key is not None)
    job = await submit.submit(client, terms, request.payload, request.key, rights)
    caller.record(_CREATED, job)
    return Submitted(job=job)


@router.post("/jobs/bulk", status_code=_CREATED)
async def submit_jobs(
    caller: Submitter,
    client: Client,
    settings: InForce,
    quota: JobQuota,
    rights: InRights,
    request: JobsRequest,
) -> SubmittedMany:
    """Submit a job for each payload. All are checked before the first is submitted.

    With a key, an interrupted call can be repeated: only missing jobs are submitted.
    """
    many, key = len(request.payloads), request.key
    terms = request.terms(caller.token).for_many(many, settings.bulk_to_low)
    await check_secrets(client, caller, request.payloads)
    await quota.check(client, caller, many, key=key is not None)
    try:
        jobs = await bulk.submit_many(client, terms, request.payloads, key, rights)
    except ServerUnavailable as error:
        # It says how many were submitted, and the key with which to go on.
        caller.record(_UNAVAILABLE, reason=str(error))
        raise HTTPException(_UNAVAILABLE, str(error), {"Retry-After": PAUSE}) from error
    caller.record(_CREATED, *jobs)
    return SubmittedMany(jobs=jobs)


@router.get("/jobs")
async def jobs(caller: Reader, client: Client, where: WhereQuery) -> Listing:
    """The newest jobs: one's own or, with the scope read-all, those of all users. `next` in the
    answer is where the list goes on."""
    own = [] if caller.token.allows(Scope.READ_ALL) else [caller.token.tag]
    chosen = where.selection(*own)
    return await list_jobs(client, chosen, where.limit, where.after, is_counted=where.total)


@router.get("/jobs/{job}")
async def job(caller: Reader, client: Client, job: UUID) -> Explanation:
    """The state of a job, the reasons for it, its place in the queue, and an estimate."""
    return await explain(client, job, await find_attempts(client, caller, job))


@router.post("/jobs/{job}/cancel")
async def cancel_job(caller: Submitter, client: Client, job: UUID) -> Message:
    """Cancel a job. It may take some seconds to end."""
    return await _change(client, caller, job, partial(cancel.cancel, limit=CANCEL_TIME, wait=False))


@router.post("/jobs/{job}/hold")
async def hold_job(caller: Submitter, client: Client, job: UUID) -> Message:
    """Hold a job that waits: it starts in no slot until it is released."""
    return await _change(client, caller, job, hold.hold)


@router.post("/jobs/{job}/release")
async def release_job(caller: Submitter, client: Client, job: UUID) -> Message:
    """Let a held job start: it enters its queue at the end."""
    return await _change(client, caller, job, hold.release)


@router.post("/jobs/{job}/move")
async def move_job(caller: Submitter, client: Client, job: UUID, request: MoveRequest) -> Message:
    """Move a job that waits to another queue. It keeps its id."""
    return await _change(client, caller, job, partial(move.move, queue=request.queue))


@router.post("/jobs/{job}/restart", status_code=_CREATED)
async def restart_job(
    caller: Submitter, client: Client, quota: JobQuota, rights: InRights, job: UUID
) -> Submitted:
    """Submit a job that has ended once more, as a new job. 422 where its source is gone."""
    run = await _changeable(client, caller, job)
    await check_secrets(client, caller, [run.parameters.get("payload") or {}])
    await quota.check(client, caller, 1, key=False)
    new = await finished.restart(client, str(job), rights=rights)
    caller.record(_CREATED, job, new)
    return Submitted(job=new)


@router.delete("/jobs/{job}")
async def delete_job(caller: Submitter, client: Client, job: UUID) -> Message:
    """Delete a job that has ended from the server. What it has published stays."""
    return await _change(client, caller, job, finished.delete)


@router.delete("/jobs/{job}/result")
async def delete_result(
    caller: Submitter, client: Client, settings: InForce, quota: JobQuota, job: UUID
) -> Message:
    """Delete the result of a job that has ended. The job stays, and its result is gone: 410."""
    await _changeable(client, caller, job)
    manifest = await finished.delete_result(client, settings, str(job))
    quota.use.forget(manifest.user or "", manifest.bytes)
    caller.record(_OK, job)
    return Message(message=f"the result of job {job} is deleted")


async def find_visible(client: PrefectClient, caller: Caller, job: UUID) -> FlowRun:
    """The first attempt at a job that a user may see. Raises HTTPException: 404."""
    return (await find_attempts(client, caller, job))[0]


async def find_attempts(client: PrefectClient, caller: Caller, job: UUID) -> list[FlowRun]:
    """All attempts at a job that a user may see, in order. Raises HTTPException: 404.

    Whether a job of another user exists is no business of theirs.
    """
    found = await attempts(client, job)
    for run in found[:1]:
        if is_job(run) and is_in_pool_of_jobs(run) and caller.may_see(run.tags):
            return found
    caller.record(_NOT_FOUND, job)
    raise HTTPException(_NOT_FOUND, f"there is no job {job} that this token may see")


async def _change(
    client: PrefectClient,
    caller: Caller,
    job: UUID,
    act: Callable[[PrefectClient, str], Awaitable[str]],
) -> Message:
    """Change a job that the user may change. Raises as `_changeable` and `act` do."""
    await _changeable(client, caller, job)
    done = await act(client, str(job))
    caller.record(_OK, job)
    return Message(message=done)


async def _changeable(client: PrefectClient, caller: Caller, job: UUID) -> FlowRun:
    """The first attempt at a job that a user may change. Raises HTTPException: 404, 403."""
    run = await find_visible(client, caller, job)
    if not caller.may_change(run.tags):
        raise caller.refuse(f"the token does not allow to change job {job}, which is another's")
    return run
