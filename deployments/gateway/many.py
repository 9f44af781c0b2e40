"""Routes that act on many jobs at once: chosen by criteria, counted first, then confirmed."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from fastapi import APIRouter, HTTPException
from prefect.client.orchestration import PrefectClient

from deployments.gateway.jobs import CANCEL_TIME, Client, Submitter
from deployments.gateway.quotas import JobQuota
from deployments.gateway.requests import Many, ManyRequest, MoveManyRequest, Where
from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs import finished
from deployments.jobs.cancel import cancel
from deployments.jobs.hold import hold, release
from deployments.jobs.many import count_in_words, for_each, narrowed
from deployments.jobs.move import move
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.records import ACTIVE, ENDED, HOLDABLE, MOVABLE, RELEASABLE, JobState
from tasks.errors import InvalidPayload

_OK, _CONFLICT = 200, 409
_ENTERING = ("restart", "release")

router = APIRouter()


@router.post("/jobs/cancel")
async def cancel_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that wait or run and meet all criteria; with `confirm`, the number, cancel
    them. Where the number is another by then, nothing is done."""

    async def end(job: str) -> str:
        return await cancel(client, job, CANCEL_TIME, wait=False)

    return await _act(caller, client, request, "cancel", ACTIVE, end)


@router.post("/jobs/hold")
async def hold_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that wait and meet all criteria; with `confirm`, the number, hold them: they
    start in no slot until they are released."""

    async def keep(job: str) -> str:
        return await hold(client, job)

    return await _act(caller, client, request, "hold", HOLDABLE, keep)


@router.post("/jobs/release")
async def release_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the held jobs that meet all criteria; with `confirm`, the number, let them start: they
    enter their queues at the end, the oldest first."""

    async def let(job: str) -> str:
        return await release(client, job)

    return await _act(caller, client, request, "release", RELEASABLE, let)


@router.post("/jobs/move")
async def move_jobs(caller: Submitter, client: Client, request: MoveManyRequest) -> Many:
    """Count the jobs that wait and meet all criteria; with `confirm`, the number, move them to
    another queue. They keep their ids, and their order."""

    async def put(job: str) -> str:
        return await move(client, job, request.to)

    return await _act(caller, client, request, "move", MOVABLE, put)


@router.post("/jobs/restart")
async def restart_jobs(
    caller: Submitter, client: Client, quota: JobQuota, request: ManyRequest
) -> Many:
    """Count the jobs that have ended and meet all criteria; with `confirm`, the number, submit
    each once more, as a new job, the oldest first."""

    async def again(job: str) -> str:
        return str(await finished.restart(client, job))

    if request.confirm:
        await quota.check(client, caller, request.confirm, key=False)
    return await _act(caller, client, request, "restart", ENDED, again)


@router.post("/jobs/delete")
async def delete_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that have ended and meet all criteria; with `confirm`, the number, delete
    them from the server. What they have published stays."""

    async def remove(job: str) -> str:
        return await finished.delete(client, job)

    return await _act(caller, client, request, "delete", ENDED, remove)


async def _act(
    caller: Caller,
    client: PrefectClient,
    request: ManyRequest,
    verb: str,
    states: Sequence[JobState],
    action: Callable[[str], Awaitable[str]],
) -> Many:
    """Count the jobs, or act on them. Raises HTTPException: 409 for another number."""
    if request.selection().is_everything:
        names = ", ".join(Where.model_fields)
        raise InvalidPayload(f"choose the jobs to {verb} by a criterion: {names}")
    # Those that one may change; a token that allows to see more does not allow to change more.
    own = [] if caller.token.allows(Scope.OPERATE) else [caller.token.tag]
    wanted = narrowed(request.selection(*own), states, verb)
    chosen = (await list_jobs(client, wanted)).jobs
    kinds = count_in_words(chosen)
    if request.confirm is None:
        return Many(count=len(chosen), kinds=kinds, done=False)
    if request.confirm != len(chosen):
        raise HTTPException(
            _CONFLICT,
            f"{len(chosen):,} jobs meet the criteria now, not {request.confirm:,}: nothing was "
            f"done; look again, and confirm {len(chosen)}",
        )
    # What enters a queue does so in the order of submission; others leave it from its end.
    ordered = chosen[::-1] if verb in _ENTERING else chosen
    jobs = [str(job.job) for job in ordered]
    outcome = await for_each(jobs, action, in_order=verb == "release")
    caller.record(_OK, *(job.job for job in chosen))
    new = [UUID(line) for line in outcome.messages] if verb == "restart" else []
    return Many(count=len(chosen), kinds=kinds, done=True, jobs=new, refused=outcome.refused)
