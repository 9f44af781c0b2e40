"""Put pools, queues, blocks and deployments on a Prefect server; again is the same as once."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint

from deployments.folders import prepare_folders
from deployments.notifications.declaration import read_subscribers
from deployments.notifications.registration import declaration, prepare
from deployments.pools import TREE, apply_pools, engine_volume
from deployments.result_block import save_result_block
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.errors import OperatorError
from tasks.settings import Settings, engine_socket

PREFECT_YAML = TREE / "prefect.yaml"


async def apply(
    pool: Pool,
    settings: Settings,
    image: str | None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Bring the server up to date; deployments run on `pool`. Returns their number.

    Raises OperatorError where a flow does not import, the server refuses a deployment, or the
    subscribers to notifications are not declared as they should be. Of one who cannot be reached,
    for a block that is missing perhaps, `warn` is told where it is given: it takes a server that
    runs to make the block on.
    """
    manifest: dict[str, Any] = yaml.safe_load(PREFECT_YAML.read_text())
    flows = _load(e["entrypoint"] for e in manifest["deployments"])
    tasks = {flows[e["entrypoint"]].name for e in manifest["deployments"] if not _is_platform(e)}
    subscribers = read_subscribers(declaration(settings), tasks)
    prepare_folders(settings, pool)
    async with get_client() as client:
        registration = await prepare(client, settings, subscribers)
        for fault in registration.faults:
            if warn is None:
                raise OperatorError(fault)
            warn(f"{fault}; then run prefecture apply")
        socket = engine_socket()
        await apply_pools(client, settings, image, socket)
        if fault := await save_result_block(settings):
            if warn is None:
                raise OperatorError(fault)
            warn(f"{fault}; then run prefecture apply")
        of_engine = socket if pool is Pool.DOCKER else None
        await _deploy(client, manifest, flows, pool, of_engine, schedules=settings.analytics)
        await registration.put(client, settings)
    return len(manifest["deployments"])


def _load(entrypoints: Iterable[str]) -> dict[str, Flow[..., Any]]:
    """The flows; `prefect deploy` puts a placeholder in the place of one that is broken."""
    flows: dict[str, Flow[..., Any]] = {}
    for entrypoint in sorted(set(entrypoints)):
        try:
            flow = load_flow_from_entrypoint(str(TREE / entrypoint), use_placeholder_flow=False)
        except Exception as error:
            raise OperatorError(f"{entrypoint} does not load: {error}") from error
        flows[entrypoint] = flow
    return flows


def _is_platform(entry: dict[str, Any]) -> bool:
    return entry["work_pool"]["name"] == PLATFORM_POOL


async def _deploy(
    client: PrefectClient,
    manifest: dict[str, Any],
    flows: Mapping[str, Flow[..., Any]],
    pool: Pool,
    socket: Path | None,
    *,
    schedules: bool,
) -> None:
    """As `prefect deploy --all` of prefect.yaml, jobs on the pool that was chosen.

    One request for each: with the eight that `prefect deploy` makes, and its schema, which leaves
    unknown parameters to the engine, that can only crash on them, this took most of the time in
    which a server was set up (20 s of 34).
    """
    ids = {name: await client.create_flow_from_name(flow.name) for name, flow in flows.items()}
    for entry in manifest["deployments"]:
        entrypoint, work_pool = entry["entrypoint"], entry["work_pool"]
        flow = flows[entrypoint]
        variables = dict(work_pool.get("job_variables", {}))
        if pool is not Pool.DOCKER:
            variables.pop("container", None)  # there is none
        if variables.pop("engine", None) and socket is not None:
            variables["engine"] = engine_volume(socket)
        schema = flow.parameters.model_dump_for_openapi()
        try:
            await client.create_deployment(
                ids[entrypoint],
                entry["name"],
                version=flow.version,
                entrypoint=entrypoint,
                description=entry["description"],
                tags=entry["tags"],
                work_pool_name=work_pool["name"] if _is_platform(entry) else str(pool),
                work_queue_name=work_pool.get("work_queue_name"),
                job_variables=variables,
                schedules=[
                    DeploymentScheduleCreate(
                        schedule=CronSchedule(cron=each["cron"], timezone=each["timezone"]),
                        active=schedules,
                    )
                    for each in entry.get("schedules", [])
                ],
                pull_steps=manifest["pull"],
                parameter_openapi_schema=schema | {"additionalProperties": False},
                enforce_parameter_schema=True,
            )
        except PrefectHTTPStatusError as error:
            said = " ".join(error.response.text.split())
            raise OperatorError(
                f"the server refuses deployment {flow.name}/{entry['name']}: {said}"
            ) from error
