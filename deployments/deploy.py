"""The deployments of prefect.yaml on a Prefect server: created, or brought up to date.

What users add to a deployment stays: their schedules, the planned runs of these, a pause.
Prefect's own way to deploy again creates the deployment once more, which deletes all of its
schedules. So an existing deployment is updated instead, and only where it differs from its
declaration: each update deletes the planned runs, which are then planned anew.
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
"""The prefix of the slugs of declared schedules. Users choose other slugs, or none."""
_RENAMED = {"aggregate-history": "every-minute", "report-usage": "hourly"}
"""Names of deployments in earlier versions, by flow: they are deleted with their schedules."""
_CLOCK = timedelta(seconds=5)  # by which server_time may be fast, and more


async def deploy(
    client: PrefectClient,
    program: Sequence[Deployment],
    pool: Pool,
    socket: Path | None,
    *,
    schedules: bool,
) -> None:
    """Do what `prefect deploy --all` does with prefect.yaml; compute tasks run on `pool`.

    `socket`: the Docker engine's, for the tasks that start containers.
    `schedules`: whether the declared schedules are active. Raises OperatorError where the server
    refuses a deployment.

    Makes one request for each new deployment. `prefect deploy` makes eight, which took most of the
    time in which a server was set up (20 s of 34), and its schema admits unknown parameters, on
    which the flow engine crashes.
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
    """The declared fields of a deployment, in the form that Prefect's client takes."""
    variables = dict(deployment.job_variables)
    if pool is not Pool.DOCKER:
        variables.pop("container", None)  # processes have no container
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
    """Update a deployment where it differs, then plan the runs again that the update deleted."""
    # Tags have no order: Prefect does not keep it.
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
    """Make our schedules the declared ones; leave users' alone. Returns whether any changed."""
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
    """Whether Prefecture made this schedule; its first versions gave schedules no slug."""
    if present.slug is None:
        return not present.parameters and present.schedule in [one.schedule for one in declared]
    return present.slug.startswith(_OURS)


async def _plan(client: PrefectClient, known: DeploymentResponse, since: datetime) -> None:
    """Plan the runs of a deployment's schedules, from the time `since` on.

    The server's scheduler does so a few seconds later, but only from then on: a run due before
    would be lost. A run that is planned already is not planned twice.
    """
    if not known.paused:
        await client.request(
            "POST",
            "/deployments/{id}/schedule",
            path_params={"id": known.id},
            json={"start_time": since.isoformat()},
        )
