"""Creates and updates work pools and their queues on a Prefect server."""

import json
import shlex
import sys
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import Worker, WorkQueue
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectHTTPStatusError

from deployments.ecs.template import ecs_template
from deployments.result_block import result_block
from tasks.contracts import (
    ENGINE_SOCKET,
    PLATFORM_POOL,
    WORKER_VARIABLES,
    Pool,
    Queue,
    Resources,
    WorkerReport,
)
from tasks.errors import OperatorError
from tasks.prefect_api.drains import drain_of, read_drains
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.variables import read_variables, values_as
from tasks.settings import NETWORK_VARIABLE, RESULT_BLOCK_VARIABLE, Settings, job_environment

TREE = Path(__file__).resolve().parent.parent
"""The folder that holds this code: flows, tasks, work_pools and prefect.yaml."""

_NOT_FOUND = 404
_SHOWN = 5  # hosts in a message
_BILLION = 1_000_000_000


def job_template(
    pool: Pool,
    settings: Settings,
    image: str | None,
    socket: Path | None = None,
    block: UUID | None = None,
) -> dict[str, Any]:
    """The base job template of a pool of hosts, with this host's folders, user and limits in it.

    Folders and user are part of the job configuration, not variables: a submitter can neither mount
    another folder nor become another user. `socket`: the Docker engine's, if it is on this host.
    `block`: the id of the block that keeps return values, if they are kept in a folder.
    """
    template: dict[str, Any] = json.loads((TREE / "work_pools" / f"{pool}.json").read_text())
    job: dict[str, Any] = template["job_configuration"]
    job["env"] = job_environment(settings) | {NETWORK_VARIABLE: "{{ network }}"}
    if block is not None:
        job["env"][RESULT_BLOCK_VARIABLE] = str(block)
    variables: dict[str, Any] = template["variables"]["properties"]
    variables["max_duration"]["default"] = settings.max_duration
    if pool is Pool.PROCESS:
        _run_here(job)
        job["env"]["PREFECTURE_HOME"] = str(settings.home)  # which its jobs do not read
        return template
    # Each root has the same path inside the container as outside: a location in a manifest or in
    # Prefect's result record is valid in both.
    job["volumes"] = [
        f"{settings.inputs}:{settings.inputs}:ro",
        f"{settings.written}:{settings.written}:rw",
        "{{ engine }}",
    ]
    # The worker passes on its own PREFECT_HOME, which containers cannot write.
    job["env"] |= {"PREFECT_HOME": "/tmp/prefect", "HOME": "/tmp"}
    job["container_create_kwargs"]["user"] = settings.user
    if image is not None:
        job["image"] = image
    variables["mem_limit"]["default"] = settings.memory
    variables["nano_cpus"]["default"] = settings.cpus * _BILLION
    if socket is not None:
        variables["engine"]["enum"] = [engine_volume(socket)]
        # The socket's group. Harmless in containers without the socket, which are most of them.
        job["container_create_kwargs"]["group_add"] = [str(socket.stat().st_gid)]
    return template


def engine_volume(socket: Path) -> str:
    """The volume with the Docker engine's socket, which a worker replaces by the broker's."""
    return f"{socket}:{ENGINE_SOCKET}"


def platform_template() -> dict[str, Any]:
    """The base job template of the platform's pool."""
    template: dict[str, Any] = json.loads(
        (TREE / "work_pools" / f"{PLATFORM_POOL}.json").read_text()
    )
    _run_here(template["job_configuration"])
    return template


def _run_here(job: dict[str, Any]) -> None:
    """Make the processes of a pool run the code of this tree, with this interpreter."""
    # `python` would be the first on the worker's PATH: name the interpreter that has Prefect.
    words = [sys.executable if word == "python" else word for word in str(job["command"]).split()]
    job["command"] = shlex.join(words)
    job["working_dir"] = str(TREE)


async def apply_pools(
    client: PrefectClient,
    settings: Settings,
    image: str | None,
    socket: Path | None,
    chosen: Pool,
) -> None:
    """Create or update the platform's pool, and the pools of jobs with their queues.

    The queues are high, normal and low, in that order of priority. `chosen`: the pool that
    deployments run on; the pool `ecs` is made for those alone.
    """
    await _put_pool(client, PLATFORM_POOL, Pool.PROCESS, platform_template())
    block = await result_block(client, settings)
    for pool in Pool:
        if pool is Pool.ECS and chosen is not Pool.ECS:
            continue
        known = image or await _image_of(client, pool)
        if pool is Pool.ECS:
            template = await ecs_template(client, settings, known)
        else:
            template = job_template(pool, settings, known, socket, block)
        await _put_pool(client, pool, pool, template)
        present = {queue.name: queue for queue in await read_queues(client, pool)}
        for priority, queue in enumerate(Queue, start=1):
            if queue not in present:
                await client.create_work_queue(queue, priority=priority, work_pool_name=pool)
            elif present[queue].priority != priority:
                await client.request(
                    "PATCH",
                    "/work_pools/{work_pool_name}/queues/{name}",
                    path_params={"work_pool_name": pool, "name": queue},
                    json={"priority": priority},
                )


async def scale(client: PrefectClient, pool: Pool, jobs: int | None) -> None:
    """Set how many jobs of a pool run at once on all hosts together; None: as workers take.

    Running jobs are left alone. Raises OperatorError where there is no such pool.
    """
    try:
        await client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=jobs))
    except ObjectNotFound as error:
        raise OperatorError(f"there is no pool {pool} yet: prefecture apply makes it") from error


async def read_workers(client: PrefectClient, pool: str) -> list[Worker]:
    """The workers of a pool, online or not; none where there is no such pool."""
    try:
        return await client.read_workers_for_work_pool(pool)
    except PrefectHTTPStatusError as error:
        if error.response.status_code != _NOT_FOUND:
            raise
        return []


async def read_slots(client: PrefectClient, pool: str) -> int | None:
    """How many jobs the online workers of a pool take at once; None if one does not report it.

    Prefect's own workers do not report it. A worker whose host is drained takes none.
    """
    workers = await client.read_workers_for_work_pool(pool)
    online = {worker.name for worker in workers if worker.status == "ONLINE"}
    taking = online - await drained_workers(client, pool)
    return slots_of(taking, await read_worker_reports(client), pool)


def slots_of(taking: set[str], reports: Iterable[WorkerReport], pool: str) -> int | None:
    """How many jobs workers of a pool take at once, by what they report; None if one does not."""
    slots = {each.worker: each.slots for each in reports if each.pool == pool}
    if not taking <= slots.keys():
        return None
    return sum(slots[name] for name in taking)


async def drained_workers(client: PrefectClient, pool: str) -> set[str]:
    """The workers of a pool that take no new job: their host is drained."""
    drains = await read_drains(client)
    if not drains:
        return set()
    reports = await read_worker_reports(client)
    hosts = {each.worker: each.host for each in reports if each.pool == pool}
    workers = await client.read_workers_for_work_pool(pool)
    names = [worker.name for worker in workers]
    return {name for name in names if drain_of(drains, hosts.get(name, ""), name) is not None}


async def read_offers(
    client: PrefectClient, pool: str, workers: Collection[str]
) -> dict[str, Resources | None]:
    """What these workers of a pool offer, by name; None for one that does not report it."""
    return offers_of(workers, await read_worker_reports(client), pool)


def offers_of(
    workers: Iterable[str], reports: Iterable[WorkerReport], pool: str
) -> dict[str, Resources | None]:
    """What these workers of a pool offer, by what they report: see read_offers."""
    known = {each.worker: each.offer for each in reports if each.pool == pool}
    return {name: known.get(name) for name in workers}


def lacking(asked: Resources, offers: Mapping[str, Resources | None]) -> str:
    """What no host has of what a job asks for, in one line; empty where one has all, or may."""
    lacks = {name: offer and offer.lacks(asked) for name, offer in offers.items()}
    if not all(lacks.values()):
        return ""
    found = "; ".join(f"{name} has not {what}" for name, what in sorted(lacks.items())[:_SHOWN])
    return f"no host offers what it asks for: {found}"


async def read_worker_reports(client: PrefectClient) -> list[WorkerReport]:
    """What our workers have reported of themselves, those that have ended included."""
    found = await read_variables(client, WORKER_VARIABLES)
    return [report for _, report in values_as(found, WorkerReport)]


async def _put_pool(client: PrefectClient, name: str, kind: Pool, template: dict[str, Any]) -> None:
    """Create a pool, or update only the template of an existing pool.

    Prefect's `overwrite` would also write whether the pool is paused, and so undo a supervisor's
    pause.
    """
    try:
        await client.create_work_pool(
            WorkPoolCreate(name=name, type=kind, base_job_template=template)
        )
    except ObjectAlreadyExists:
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


async def _image_of(client: PrefectClient, pool: str) -> str | None:
    """The current image of a pool's jobs; None where there is no such pool or no image."""
    try:
        template = (await client.read_work_pool(pool)).base_job_template
    except ObjectNotFound:
        return None
    return template.get("job_configuration", {}).get("image")


async def read_queues(client: PrefectClient, pool: str) -> list[WorkQueue]:
    """All queues of a pool, including those that a typo created."""
    return await client.read_work_queues(work_pool_name=pool, limit=PAGE)
