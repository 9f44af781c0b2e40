"""Routes that act on many jobs at once: chosen by criteria or ids, counted first, then confirmed.

A request answers within some seconds, however many the jobs are. When it has not reached all, the
same request with the `next` of its answer goes on with the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter, HTTPException
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from deployments.gateway.jobs import (
    CANCEL_TIME,
    Client,
    InRights,
    Submitter,
    find_visible,
)
from deployments.gateway.quotas import JobQuota
from deployments.gateway.requests import Many, ManyRequest, MoveManyRequest, Where
from deployments.gateway.secret_names import check_secrets
from deployments.gateway.users.access import Caller
from deployments.gateway.users.tokens import Scope
from deployments.jobs import finished
from deployments.jobs.cancel import cancel
from deployments.jobs.hold import hold, release
from deployments.jobs.many import count_in_words, for_each, narrowed
from deployments.jobs.move import move
from deployments.jobs.queries.filters import is_in_pool_of_jobs, takes
from deployments.jobs.queries.listing import count_jobs, list_jobs, read_task_names, record
from deployments.jobs.queries.named import read_named
from deployments.jobs.queries.selection import Selection
from deployments.jobs.queries.walk import Walk
from deployments.jobs.records import ACTIVE, ENDED, HOLDABLE, MOVABLE, RELEASABLE, JobState
from tasks.contracts import job_id
from tasks.errors import InvalidPayload, PrefectureError

_OK, _CONFLICT = 200, 409
_ENTERING = ("restart", "release")
_PIECE = 50  # jobs that are read together
_TIME = 3.0  # seconds after which no further job is begun

router = APIRouter()


@dataclass(frozen=True)
class _Work:
    """What is to be done with jobs."""

    verb: str
    states: Sequence[JobState]
    """Those in which a job must be."""
    action: Callable[[str, Walk], Awaitable[str]]
    """Acts on one job, as `for_each` calls it."""
    admit: Callable[[int], Awaitable[None]] | None = None
    """Raises HTTPException where the user's bounds do not allow that many jobs more."""

    @property
    def oldest_first(self) -> bool:
        """Whether the oldest job is first: jobs enter a queue in the order of their submission, and
        leave it from its end."""
        return self.verb in _ENTERING


@router.post("/jobs/cancel")
async def cancel_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that wait or run and meet all criteria; with `confirm`, the number, cancel
    them. Where the number is another by then, nothing is done."""

    async def end(job: str, _: Walk) -> str:
        return await cancel(client, job, CANCEL_TIME, wait=False)

    return await _act(caller, client, request, _Work("cancel", ACTIVE, end))


@router.post("/jobs/hold")
async def hold_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that wait and meet all criteria; with `confirm`, the number, hold them: they
    start in no slot until they are released."""

    async def keep(job: str, _: Walk) -> str:
        return await hold(client, job)

    return await _act(caller, client, request, _Work("hold", HOLDABLE, keep))


@router.post("/jobs/release")
async def release_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the held jobs that meet all criteria; with `confirm`, the number, let them start: they
    enter their queues at the end, the oldest first."""

    async def let(job: str, _: Walk) -> str:
        return await release(client, job)

    return await _act(caller, client, request, _Work("release", RELEASABLE, let))


@router.post("/jobs/move")
async def move_jobs(caller: Submitter, client: Client, request: MoveManyRequest) -> Many:
    """Count the jobs that wait and meet all criteria; with `confirm`, the number, move them to
    another queue. They keep their ids, and their order."""

    async def put(job: str, _: Walk) -> str:
        return await move(client, job, request.to)

    return await _act(caller, client, request, _Work("move", MOVABLE, put))


@router.post("/jobs/restart")
async def restart_jobs(
    caller: Submitter, client: Client, quota: JobQuota, rights: InRights, request: ManyRequest
) -> Many:
    """Count the jobs that have ended and meet all criteria; with `confirm`, the number, submit
    each once more, as a new job, the oldest first."""

    async def again(job: str, walk: Walk) -> str:
        run = await find_visible(client, caller, UUID(job))
        try:
            await check_secrets(client, caller, [run.parameters.get("payload") or {}])
            return str(await finished.restart(client, job, f"{walk.mark}:{job}", rights))
        except HTTPException as refused:  # of this job alone
            raise PrefectureError(f"job {job}: {refused.detail}") from refused

    async def admit(number: int) -> None:
        await quota.check(client, caller, number, key=False)

    return await _act(caller, client, request, _Work("restart", ENDED, again, admit))


@router.post("/jobs/delete")
async def delete_jobs(caller: Submitter, client: Client, request: ManyRequest) -> Many:
    """Count the jobs that have ended and meet all criteria; with `confirm`, the number, delete
    them from the server. What they have published stays."""

    async def remove(job: str, _: Walk) -> str:
        return await finished.delete(client, job)

    return await _act(caller, client, request, _Work("delete", ENDED, remove))


async def _act(caller: Caller, client: PrefectClient, request: ManyRequest, work: _Work) -> Many:
    """Count the jobs, or act on them. Raises HTTPException: 409 where the number has changed."""
    if request.next and request.confirm is None:
        raise InvalidPayload("next: repeat `confirm` too, with the same number")
    is_everything = request.selection().is_everything
    if request.jobs:
        if not is_everything:
            raise InvalidPayload(f"name the jobs to {work.verb}, or choose them, but not both")
        return await _act_on_named(caller, client, request, work)
    if is_everything:
        names = ", ".join(Where.model_fields)
        raise InvalidPayload(f"choose the jobs to {work.verb} by a criterion: {names}; or `jobs`")
    # Those that one may change; a token that allows to see more does not allow to change more.
    own = [] if caller.token.allows(Scope.OPERATE) else [caller.token.tag]
    wanted = narrowed(request.selection(*own), work.states, work.verb)
    if request.confirm is None:
        chosen = (await list_jobs(client, wanted)).jobs
        return Many(count=len(chosen), kinds=count_in_words(chosen), done=False)
    if request.next:
        walk = Walk.parse(request.next)
    else:
        walk = Walk.begin()
        if await count_jobs(client, wanted) != request.confirm:
            _compare(len((await list_jobs(client, wanted)).jobs), request.confirm)
        if work.admit:
            await work.admit(request.confirm)
    return await _act_in_time(caller, client, wanted, work, walk, request.confirm)


async def _act_in_time(
    caller: Caller,
    client: PrefectClient,
    wanted: Selection,
    work: _Work,
    walk: Walk,
    agreed: int,
) -> Many:
    """Act on the jobs of a selection, piece by piece, until the time is over."""
    until = _deadline()
    done = Many(count=agreed, kinds=[], done=False)
    runs: list[FlowRun] = []
    left: Walk | None = walk
    while left is not None and (not runs or asyncio.get_running_loop().time() < until):
        walk = left
        piece, left = await walk.piece(client, wanted, _PIECE, oldest_first=work.oldest_first)
        try:
            if work.admit and piece:
                await work.admit(len(piece))
        except HTTPException:
            if not runs:
                raise
            left = walk  # the next request says why
            break
        reached = await _apply(work, walk, piece, done, until)
        runs += piece[:reached]
        if reached < len(piece):
            left = walk.beyond(piece[:reached])
            break
    return await _answer(caller, client, runs, done, left)


async def _act_on_named(
    caller: Caller, client: PrefectClient, request: ManyRequest, work: _Work
) -> Many:
    """Count the named jobs that are in a state for this action, or act on them."""
    wanted, now = Selection(states=tuple(work.states)), datetime.now(UTC)
    runs = [
        run
        for run in await read_named(client, request.jobs)
        if takes(wanted, run, now) and is_in_pool_of_jobs(run) and caller.may_change(run.tags)
    ]
    if request.confirm is None:
        return Many(count=len(runs), kinds=await _kinds(client, runs), done=False)
    walk = Walk.parse(request.next) if request.next else Walk.begin()
    if request.next:
        place, oldest_first = walk.place, work.oldest_first
        runs = [run for run in runs if place.is_beyond(run, oldest_first=oldest_first)]
    else:
        _compare(len(runs), request.confirm)
    if work.admit:
        await work.admit(len(runs))
    runs.sort(key=lambda run: run.expected_start_time or now, reverse=not work.oldest_first)
    done = Many(count=request.confirm, kinds=[], done=False)
    reached = await _apply(work, walk, runs, done, _deadline())
    left = walk.beyond(runs[:reached]) if reached < len(runs) else None
    return await _answer(caller, client, runs[:reached], done, left)


def _deadline() -> float:
    return asyncio.get_running_loop().time() + _TIME


async def _apply(work: _Work, walk: Walk, runs: Sequence[FlowRun], done: Many, until: float) -> int:
    """Act on the jobs of these runs, and add the outcome to `done`. Returns how many were reached
    before the time was over."""
    jobs = [str(job_id(run.labels, run.id)) for run in runs]
    outcome = await for_each(
        jobs, lambda job: work.action(job, walk), in_order=work.verb == "release", until=until
    )
    if work.verb == "restart":
        done.jobs += [UUID(line) for line in outcome.messages]
    done.refused += outcome.refused
    return outcome.reached


async def _answer(
    caller: Caller, client: PrefectClient, runs: Sequence[FlowRun], done: Many, left: Walk | None
) -> Many:
    """The answer, and the line of the audit log."""
    caller.record(_OK, *(job_id(run.labels, run.id) for run in runs))
    return done.model_copy(
        update={
            "kinds": await _kinds(client, runs),  # as they were
            "acted": len(runs),
            "done": left is None,
            "next": left and str(left),
        }
    )


async def _kinds(client: PrefectClient, runs: Sequence[FlowRun]) -> list[str]:
    tasks = await read_task_names(client)
    return count_in_words(record(run, tasks.get(run.flow_id, "unknown")) for run in runs)


def _compare(number: int, agreed: int) -> None:
    """Raise HTTPException where the number of jobs is not the confirmed one: 409."""
    if number != agreed:
        raise HTTPException(
            _CONFLICT,
            f"{number:,} jobs meet the criteria now, not {agreed:,}: nothing was done; look "
            f"again, and confirm {number}",
        )
