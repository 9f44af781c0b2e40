"""The deployments of prefect.yaml on a Prefect server: created, or brought up to date.

What users add to a deployment stays: their schedules, the runs that these have planned, a pause.
Prefect's own way to deploy again, which is to create the deployment once more, deletes all of a
deployment's schedules. So one that is there already is updated, and only where it differs from
what is declared: each update deletes the runs that are planned, and another is planned in the
place of each.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, FlowFilter
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError

from deployments.pools import engine_volume
from deployments.program import Deployment
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.errors import OperatorError
from tasks.prefect_api.clock import server_time

_OURS = "prefecture-"
"""What the slugs of declared schedules begin with. Users choose others, or none."""
_RENAMED = {"aggregate-history": "every-minute", "report-usage": "hourly"}
"""What deployments of earlier versions were called, by flow: their schedules must not go on."""
_CLOCK = timedelta(seconds=2)  # that the server's time may be early: see server_time


async def deploy(
    client: PrefectClient,
    program: Sequence[Deployment],
    pool: Pool,
    socket: Path | None,
    *,
    schedules: bool,
) -> None:
    """Do what `prefect deploy --all` does with prefect.yaml, jobs on the pool that was chosen.

    `socket`: of the Docker engine, for the tasks that start containers.
    `schedules`: whether the declared ones are active. Raises OperatorError where the server refuses
    a deployment.

    One request for each that is new: with the eight that `prefect deploy` makes, and its schema,
    which leaves unknown parameters to the engine, that can only crash on them, this took most of
    the time in which a server was set up (20 s of 34).
    """
    names = dict.fromkeys(deployment.flow.name for deployment in program)
    ids = {name: await client.create_flow_from_name(name) for name in names}
    planned_from = await server_time(client) - _CLOCK
    present = await _present(client, list(ids.values()), program)
    for one in program:
        flow_id, declared = ids[one.flow.name], _declared(one, pool, socket)
        crons = _schedules(one, active=schedules)
        try:
            known = present.get((flow_id, one.name))
            if known is None:
                await client.create_deployment(flow_id, one.name, schedules=crons, **declared)
            else:
                await _update(client, known, declared, crons, planned_from)
        except PrefectHTTPStatusError as error:
            said = " ".join(error.response.text.split())
            raise OperatorError(
                f"the server refuses deployment {one.flow.name}/{one.name}: {said}"
            ) from error
    for name, flow_id in ids.items():
        former = present.get((flow_id, _RENAMED.get(name, "")))
        if former is not None:
            await client.delete_deployment(former.id)


async def _present(
    client: PrefectClient, flows: Sequence[UUID], program: Sequence[Deployment]
) -> dict[tuple[UUID, str], DeploymentResponse]:
    """The deployments that the server has under a declared or former name, by flow and name."""
    names = sorted({one.name for one in program} | {*_RENAMED.values()})
    found = await client.read_deployments(
        flow_filter=FlowFilter.model_validate({"id": {"any_": flows}}),
        deployment_filter=DeploymentFilter.model_validate({"name": {"any_": names}}),
    )
    return {(one.flow_id, one.name): one for one in found}


def _declared(deployment: Deployment, pool: Pool, socket: Path | None) -> dict[str, Any]:
    """What is declared of a deployment, as Prefect's client wants it."""
    variables = dict(deployment.job_variables)
    if pool is not Pool.DOCKER:
        variables.pop("container", None)  # there is none
    if variables.pop("engine", None) and socket is not None:
        variables["engine"] = engine_volume(socket)
    schema = deployment.flow.parameters.model_dump_for_openapi() | {"additionalProperties": False}
    return {
        "version": deployment.flow.version,
        "entrypoint": deployment.entrypoint,
        "description": deployment.description,
        "tags": deployment.tags,
        "work_pool_name": PLATFORM_POOL if deployment.of_platform else str(pool),
        "work_queue_name": deployment.queue or "default",
        "job_variables": variables,
        "pull_steps": deployment.pull_steps,
        "parameter_openapi_schema": schema,
        "enforce_parameter_schema": True,
    }


def _schedules(deployment: Deployment, *, active: bool) -> list[DeploymentScheduleCreate]:
    return [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=each["cron"], timezone=each["timezone"]),
            active=active,
            slug=each["slug"],
        )
        for each in deployment.schedules
    ]


async def _update(
    client: PrefectClient,
    known: DeploymentResponse,
    declared: Mapping[str, Any],
    schedules: Sequence[DeploymentScheduleCreate],
    planned_from: datetime,
) -> None:
    """Write what differs, then have the runs planned again that this has deleted."""
    # The order of tags says nothing, and Prefect does not keep it.
    there = {name: getattr(known, name) for name in declared} | {"tags": sorted(known.tags)}
    differs = there != {**declared, "tags": sorted(declared["tags"])}
    if differs:
        await client.update_deployment(known.id, DeploymentUpdate(**declared))
    if await _update_schedules(client, known, schedules) or differs:
        await _plan(client, known, planned_from)


async def _update_schedules(
    client: PrefectClient,
    known: DeploymentResponse,
    declared: Sequence[DeploymentScheduleCreate],
) -> bool:
    """Make our own schedules the declared ones, and leave users' alone. Whether any was written."""
    wanted = {schedule.slug: schedule for schedule in declared}
    changed = False
    for present in known.schedules:
        mine = wanted.pop(present.slug, None) if present.slug else None
        if mine is not None:
            if (present.schedule, present.active) != (mine.schedule, mine.active):
                changed = True
                await client.update_deployment_schedule(
                    known.id, present.id, active=mine.active, schedule=mine.schedule
                )
        elif _is_ours(present, declared):
            changed = True
            await client.delete_deployment_schedule(known.id, present.id)
    if wanted:
        changed = True
        await client.create_deployment_schedules(known.id, list(wanted.values()))
    return changed


def _is_ours(present: DeploymentSchedule, declared: Sequence[DeploymentScheduleCreate]) -> bool:
    """Whether an earlier version has made this schedule: the first ones gave theirs no slug."""
    if present.slug is None:
        return not present.parameters and present.schedule in [one.schedule for one in declared]
    return present.slug.startswith(_OURS)


async def _plan(client: PrefectClient, known: DeploymentResponse, since: datetime) -> None:
    """Plan the runs of a deployment's schedules from a time on, as the server does by itself.

    It would a few seconds later, from that moment on: a run that was due before would be lost. One
    that is there already is not planned twice.
    """
    if not known.paused:
        await client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": known.id},
            json={"start_time": since.isoformat()},
        )
