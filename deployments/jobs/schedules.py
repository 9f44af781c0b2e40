"""Schedules of users: the same job is submitted at each time of a cron line.

A schedule is Prefect's own, on the deployment of its task and queue, with the job's parameters:
the server submits the jobs. The schedule's slug is the name that a user gave it.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from deployments.jobs.queries.listing import read_task_names
from deployments.jobs.request import Terms, check_against_schema
from deployments.jobs.submit import find_deployment
from tasks.contracts import Pool
from tasks.errors import InvalidPayload, PrefectureError
from tasks.prefect_api.pages import PAGE

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NEXT = 3  # due times that are shown
_BY_SERVER = "auto-scheduled"  # Prefect's tag for the runs of a schedule


@dataclass(frozen=True)
class Scheduled:
    """A schedule of a job."""

    name: str
    task: str
    queue: str
    results_directory: str
    payload: dict[str, Any]
    cron: str
    timezone: str
    active: bool
    next: tuple[datetime, ...]
    """The due times of the next jobs that the server has planned."""
    deployment: UUID
    id: UUID
    error: str = ""
    """Not known: the server says in its log why it has planned no job."""

    def as_json(self) -> dict[str, Any]:
        """The schedule as JSON."""
        return asdict(self) | {
            "next": [at.isoformat() for at in self.next],
            "deployment": str(self.deployment),
            "id": str(self.id),
        }


async def create_schedule(
    client: PrefectClient,
    terms: Terms,
    payload: Mapping[str, Any],
    cron: str,
    timezone: str = "UTC",
    name: str | None = None,
) -> str:
    """Create a schedule and return its name.

    `cron` has five fields, read in `timezone`. Raises InvalidPayload where the payload, the cron
    line, the time zone or the name is invalid, and where the name is taken.
    """
    unsupported = {
        "tags": terms.tags,
        "max_duration": terms.max_duration,
        "memory": terms.memory,
        "gpus": terms.gpus,
        "host_labels": terms.host_labels,
        "name": terms.name,
        "expires": terms.expires,
    }
    for field, value in unsupported.items():
        if value:
            raise InvalidPayload(f"{field}: a scheduled job has the setting of its deployment")
    parameters = terms.parameters(payload)
    own_name = name or f"{terms.task}-{uuid4().hex[:6]}"
    if not _NAME.fullmatch(own_name):
        raise InvalidPayload(
            f"name: {own_name[:80]!r} is no name for a schedule: use up to 63 lower-case letters, "
            "digits, - and _, such as nightly-primes"
        )
    schedule = cron_schedule(cron, timezone)
    deployment = await find_deployment(client, terms)
    check_against_schema(parameters, deployment)
    if any(one.name == own_name for one in await list_schedules(client)):
        raise InvalidPayload(
            f"there is a schedule '{own_name}' already: choose another name, or delete it first"
        )
    await client.create_deployment_schedules(
        deployment.id,
        [DeploymentScheduleCreate(schedule=schedule, parameters=parameters, slug=own_name)],
    )
    return own_name


def cron_schedule(cron: str, timezone: str) -> CronSchedule:
    """Parse a cron line. Raises InvalidPayload where it or the time zone is invalid."""
    try:
        return CronSchedule(cron=cron, timezone=timezone)
    except ValidationError as error:
        if any(each["loc"] == ("timezone",) for each in error.errors()):
            raise InvalidPayload(
                f"timezone: {timezone[:80]!r} is no time zone: use one such as Europe/Berlin"
            ) from error
        raise InvalidPayload(
            f"cron: {cron[:80]!r} is no cron line: use minute, hour, day, month and weekday, such "
            "as '30 2 * * *' for half past two each night"
        ) from error


async def list_schedules(client: PrefectClient) -> list[Scheduled]:
    """All schedules of jobs, sorted by name, with the due times of their next jobs."""
    tasks = await read_task_names(client)
    found = [
        (deployment, schedule)
        for deployment in await _deployments(client)
        for schedule in deployment.schedules
        if "results_directory" in schedule.parameters
        and isinstance(schedule.schedule, CronSchedule)
    ]
    times = await _next_times(client) if found else {}
    listed = [
        _scheduled(deployment, schedule, tasks.get(deployment.flow_id, "unknown"), times)
        for deployment, schedule in found
    ]
    return sorted(listed, key=lambda each: each.name)


async def find_schedule(client: PrefectClient, name: str) -> Scheduled:
    """Find a schedule by its name. Raises InvalidPayload where there is none."""
    schedules = {each.name: each for each in await list_schedules(client)}
    if name not in schedules:
        known = f"there are {', '.join(schedules)}" if schedules else "there are none"
        raise InvalidPayload(f"there is no schedule '{name[:80]}': {known}")
    return schedules[name]


async def set_active(client: PrefectClient, name: str, *, active: bool) -> Scheduled:
    """Pause or resume a schedule; waiting jobs stay. Raises InvalidPayload where there is none."""
    found = await find_schedule(client, name)
    # An update without parameters would remove those of the schedule.
    parameters = {"payload": found.payload, "results_directory": found.results_directory}
    await client.update_deployment_schedule(
        found.deployment, found.id, active=active, parameters=parameters
    )
    return found


async def delete_schedule(client: PrefectClient, name: str, *, force: bool = False) -> Scheduled:
    """Delete a schedule. Jobs that it has submitted and that have started stay.

    With the schedule the server deletes all scheduled jobs of that task and queue that have not
    started, including those that wait in the queue. Where some wait, the schedule is only paused
    and PrefectureError raised, unless `force`. Raises InvalidPayload where there is no schedule.
    """
    found = await set_active(client, name, active=False)
    waiting = 0 if force else await _waiting(client, found.deployment)
    if waiting:
        jobs = "1 scheduled job waits" if waiting == 1 else f"{waiting} scheduled jobs wait"
        raise PrefectureError(
            f"schedule {name} is paused, not deleted: {jobs} in {found.task}/{found.queue}, and "
            "would be deleted with it: delete it when they have started, or at once with --yes"
        )
    try:
        await client.delete_deployment_schedule(found.deployment, found.id)
    except ObjectNotFound as error:
        raise InvalidPayload(f"there is no schedule '{name}': it was deleted meanwhile") from error
    return found


async def _deployments(client: PrefectClient) -> list[DeploymentResponse]:
    found: list[DeploymentResponse] = []
    while True:
        page = await client.read_deployments(
            work_pool_filter=_jobs_pools(), limit=PAGE, offset=len(found)
        )
        found += page
        if len(page) < PAGE:
            return found


async def _next_times(client: PrefectClient) -> dict[UUID, list[datetime]]:
    """The due times of the next jobs of each schedule, in order."""
    times: dict[UUID, list[datetime]] = {}
    runs = await client.read_flow_runs(
        work_pool_filter=_jobs_pools(),
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "tags": {"all_": [_BY_SERVER]},
                "next_scheduled_start_time": {"after_": datetime.now(UTC)},
            }
        ),
        sort=FlowRunSort.NEXT_SCHEDULED_START_TIME_ASC,
        limit=PAGE,
    )
    for run in runs:
        due = run.next_scheduled_start_time
        if run.created_by is not None and run.created_by.id is not None and due is not None:
            times.setdefault(run.created_by.id, []).append(due)
    return times


async def _waiting(client: PrefectClient, deployment: UUID) -> int:
    """Count the scheduled jobs of a deployment that are due and have not started."""
    return await client.count_flow_runs(
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "deployment_id": {"any_": [deployment]},
                "state": {"type": {"any_": ["SCHEDULED"]}},
                "tags": {"all_": [_BY_SERVER]},
                "next_scheduled_start_time": {"before_": datetime.now(UTC)},
            }
        )
    )


def _scheduled(
    deployment: DeploymentResponse,
    schedule: DeploymentSchedule,
    task: str,
    times: Mapping[UUID, list[datetime]],
) -> Scheduled:
    assert isinstance(schedule.schedule, CronSchedule)
    payload = schedule.parameters.get("payload")
    return Scheduled(
        name=schedule.slug or str(schedule.id),
        task=task,
        queue=deployment.work_queue_name or "",
        results_directory=str(schedule.parameters["results_directory"]),
        payload=cast("dict[str, Any]", payload) if isinstance(payload, dict) else {},
        cron=schedule.schedule.cron,
        timezone=schedule.schedule.timezone or "UTC",
        active=schedule.active,
        next=tuple(times.get(schedule.id, [])[:_NEXT]) if schedule.active else (),
        deployment=deployment.id,
        id=schedule.id,
    )


def _jobs_pools() -> WorkPoolFilter:
    return WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
