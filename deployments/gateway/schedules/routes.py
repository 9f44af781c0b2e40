"""Routes for schedules."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Request
from prefect.client.orchestration import PrefectClient

from deployments.gateway.jobs import Client, InRights, Reader, Submitter
from deployments.gateway.requests import Message
from deployments.gateway.schedules.cron import check_cron
from deployments.gateway.schedules.kept import Schedule, Schedules
from deployments.gateway.schedules.requests import ScheduleDetails, ScheduleRecord, ScheduleRequest
from deployments.gateway.secret_names import check_secrets
from deployments.gateway.users.access import Caller
from deployments.jobs.dependencies.after import Rights, prepare
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import JobState
from deployments.jobs.request import check_against_schema
from deployments.jobs.submit import find_deployment
from tasks.errors import PrefectureError

_OK, _CREATED, _NOT_FOUND, _CONFLICT = 200, 201, 404, 409
_LAST = 5  # jobs of a schedule that are shown

router = APIRouter(prefix="/schedules")


async def _schedules(request: Request) -> Schedules:
    return request.app.state.schedules


Kept = Annotated[Schedules, Depends(_schedules)]
"""The schedules of all users."""


@router.post("", status_code=_CREATED)
async def create_schedule(
    caller: Submitter, client: Client, rights: InRights, kept: Kept, request: ScheduleRequest
) -> ScheduleRecord:
    """Submit a job at each time of a cron line. It is checked as a job is that is submitted now."""
    schedule = request.schedule(caller.token)
    await check_cron(schedule.cron, schedule.timezone)
    await _check_work(client, caller, rights, schedule)
    try:
        added = kept.add(schedule)
    except PrefectureError as error:
        caller.record(_CONFLICT, reason=str(error))
        raise
    caller.record(_CREATED, schedule=added.id)
    return await ScheduleRecord.of(added)


@router.get("")
async def schedules(caller: Reader, kept: Kept) -> list[ScheduleRecord]:
    """One's own schedules or, with the scope read-all, those of all users, by their names."""
    seen = [each for each in kept.all() if caller.may_see(each.tags)]
    seen.sort(key=lambda each: (each.name, each.user))
    return [await ScheduleRecord.of(each) for each in seen]


@router.get("/{schedule}")
async def schedule(caller: Reader, client: Client, kept: Kept, schedule: UUID) -> ScheduleDetails:
    """A schedule: its next three times, and the last jobs that it has submitted."""
    found = _find(kept, caller, schedule)
    # An earlier schedule of the same name may have had jobs with its tag.
    own = Selection(states=tuple(JobState), tags=found.tags, since=found.created)
    jobs = (await list_jobs(client, own, _LAST)).jobs
    return await ScheduleDetails.of(found, job=found.work, last_jobs=jobs)


@router.post("/{schedule}/pause")
async def pause_schedule(caller: Submitter, kept: Kept, schedule: UUID) -> Message:
    """Submit no jobs until it is resumed. Jobs that wait or run go on."""
    found = _find_to_change(kept, caller, schedule)
    kept.change({found.id: {"active": False}})
    caller.record(_OK, schedule=found.id)
    return Message(message=f"schedule {found.name} is paused")


@router.post("/{schedule}/resume")
async def resume_schedule(caller: Submitter, kept: Kept, schedule: UUID) -> Message:
    """Submit jobs again, with this token. Those that were due during the pause are not submitted.

    The token of another user resumes it with the one that it had.
    """
    found = _find_to_change(kept, caller, schedule)
    changes: dict[str, Any] = {}
    if not found.active:
        changes |= {"active": True, "done": datetime.now(UTC)}
    if found.user == caller.token.user:
        changes |= {"token": caller.token.id}
    kept.change({found.id: changes})
    caller.record(_OK, schedule=found.id)
    return Message(message=f"schedule {found.name} is active")


@router.delete("/{schedule}")
async def delete_schedule(caller: Submitter, kept: Kept, schedule: UUID) -> Message:
    """Delete a schedule. Its jobs, also those that wait, and their results stay."""
    found = _find_to_change(kept, caller, schedule)
    kept.remove([found.id])
    caller.record(_OK, schedule=found.id)
    return Message(message=f"schedule {found.name} is removed")


async def _check_work(
    client: PrefectClient, caller: Caller, rights: Rights, schedule: Schedule
) -> None:
    """Check the job of a schedule as one that is submitted. Raises InvalidPayload, and
    HTTPException: 403, 404."""
    terms, payload = schedule.work.terms(caller.token), schedule.work.payload
    await check_secrets(client, caller, [payload])
    parameters = terms.parameters(payload)
    deployment = await find_deployment(client, terms, payload)
    check_against_schema(parameters, deployment)
    (prepared,) = await prepare(client, [parameters["payload"]], deployment, rights)
    prepared.dependencies.check()


def _find(kept: Schedules, caller: Caller, id: UUID) -> Schedule:
    """A schedule that a user may see. Raises HTTPException: 404."""
    found = kept.find(id)
    if found is None or not caller.may_see(found.tags):
        caller.record(_NOT_FOUND, schedule=id)
        raise HTTPException(_NOT_FOUND, f"there is no schedule {id} that this token may see")
    return found


def _find_to_change(kept: Schedules, caller: Caller, id: UUID) -> Schedule:
    """A schedule that a user may change. Raises HTTPException: 404, 403."""
    found = kept.find(id)
    if found is not None and found.user == caller.token.user and caller.may_change(found.tags):
        return found  # also with a token that may not read
    found = _find(kept, caller, id)
    if not caller.may_change(found.tags):
        raise caller.refuse(f"the token does not allow to change schedule {id}, which is another's")
    return found
