"""Work pools and their queues on a Prefect server, made or brought up to date."""

import json
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import Variable, WorkQueue
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from pydantic import ValidationError

from deployments.result_block import result_block
from tasks.contracts import (
    ENGINE_SOCKET,
    PLATFORM_POOL,
    WORKER_VARIABLES,
    Pool,
    Queue,
    WorkerReport,
)
from tasks.errors import OperatorError
from tasks.prefect_api.pages import PAGE
from tasks.settings import RESULT_BLOCK_VARIABLE, Settings

TREE = Path(__file__).resolve().parent.parent
"""The folder that holds this code: flows, tasks, work_pools and prefect.yaml."""

_MOST_WORKERS = 200  # that one request reads
_BILLION = 1_000_000_000


def job_template(
    pool: Pool,
    settings: Settings,
    image: str | None,
    socket: Path | None = None,
    block: UUID | None = None,
) -> dict[str, Any]:
    """The base job template of a pool, with this host's folders, user and limits filled in.

    What is filled in here is part of the job configuration and not a variable: whoever submits a
    job cannot mount another folder or become another user. `socket`: of the engine, where it is on
    this host. `block`: the saved block that keeps return values, where they are in a folder.
    """
    template: dict[str, Any] = json.loads((TREE / "work_pools" / f"{pool}.json").read_text())
    job: dict[str, Any] = template["job_configuration"]
    job["env"] = settings.job_environment()
    if block is not None:
        job["env"][RESULT_BLOCK_VARIABLE] = str(block)
    variables: dict[str, Any] = template["variables"]["properties"]
    variables["max_duration"]["default"] = settings.max_duration
    if pool is Pool.PROCESS:
        _run_here(job)
        return template
    # Each root stands at the same path inside the container as outside: a location in a manifest
    # or in Prefect's result record means the same to both.
    job["volumes"] = [
        f"{settings.inputs}:{settings.inputs}:ro",
        f"{settings.written}:{settings.written}:rw",
        "{{ engine }}",
    ]
    # The worker hands its own PREFECT_HOME on, which no container can write.
    job["env"] |= {"PREFECT_HOME": "/tmp/prefect", "HOME": "/tmp"}
    job["container_create_kwargs"]["user"] = settings.user
    if image is not None:
        job["image"] = image
    variables["mem_limit"]["default"] = settings.memory
    variables["nano_cpus"]["default"] = settings.cpus * _BILLION
    if socket is not None:
        variables["engine"]["enum"] = [engine_volume(socket)]
        # The socket's group: without the socket, which few are given, it opens nothing.
        job["container_create_kwargs"]["group_add"] = [str(socket.stat().st_gid)]
    return template


def engine_volume(socket: Path) -> str:
    """How the containers of tasks that start containers are given the engine."""
    return f"{socket}:{ENGINE_SOCKET}"


def platform_template() -> dict[str, Any]:
    """The base job template of the pool that the platform's own flows run on."""
    template: dict[str, Any] = json.loads(
        (TREE / "work_pools" / f"{PLATFORM_POOL}.json").read_text()
    )
    _run_here(template["job_configuration"])
    return template


def _run_here(job: dict[str, Any]) -> None:
    """Have the processes of a pool run this tree."""
    # The worker's `python` is whichever comes first on its PATH: name the one that has Prefect.
    words = [sys.executable if word == "python" else word for word in str(job["command"]).split()]
    job["command"] = shlex.join(words)
    job["working_dir"] = str(TREE)


async def apply_pools(
    client: PrefectClient, settings: Settings, image: str | None, socket: Path | None
) -> None:
    """Both pools with their queues, high, normal and low in that order of priority; and the
    platform's."""
    await _put_pool(client, PLATFORM_POOL, Pool.PROCESS, platform_template())
    block = await result_block(client, settings)
    for pool in Pool:
        known = image or await _image_of(client, pool)
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
    """How many jobs of a pool run at once, on all hosts together; None: as many as workers take.

    Jobs that run are left alone. Raises OperatorError where there is no such pool.
    """
    try:
        await client.update_work_pool(pool, WorkPoolUpdate(concurrency_limit=jobs))
    except ObjectNotFound as error:
        raise OperatorError(f"there is no pool {pool} yet: prefecture apply makes it") from error


async def read_slots(client: PrefectClient, pool: str) -> int | None:
    """How many jobs the online workers of a pool take at once; None where one has not said.

    Prefect's own workers do not say.
    """
    workers = await client.read_workers_for_work_pool(pool)
    online = {worker.name for worker in workers if worker.status == "ONLINE"}
    response = await client.request(
        "POST",
        "/variables/filter",
        json={"variables": {"name": {"like_": WORKER_VARIABLES}}, "limit": _MOST_WORKERS},
    )
    slots: dict[str, int] = {}
    for variable in Variable.model_validate_list(response.json()):
        with suppress(ValidationError):  # somebody else's variable, in spite of its name
            report = WorkerReport.model_validate(variable.value)
            if report.pool == pool:
                slots[report.worker] = report.slots
    if not online <= slots.keys():
        return None
    return sum(slots[name] for name in online)


async def _put_pool(client: PrefectClient, name: str, kind: Pool, template: dict[str, Any]) -> None:
    """Make a pool, or give the one that is there its template and leave the rest of it alone.

    Prefect's `overwrite` would write whether the pool is paused as well, and so take back what a
    supervisor has said meanwhile.
    """
    try:
        await client.create_work_pool(
            WorkPoolCreate(name=name, type=kind, base_job_template=template)
        )
    except ObjectAlreadyExists:
        await client.update_work_pool(name, WorkPoolUpdate(base_job_template=template))


async def _image_of(client: PrefectClient, pool: str) -> str | None:
    """The image that a pool's jobs run in now, where there is such a pool."""
    try:
        template = (await client.read_work_pool(pool)).base_job_template
    except ObjectNotFound:
        return None
    return template.get("job_configuration", {}).get("image")


async def read_queues(client: PrefectClient, pool: str) -> list[WorkQueue]:
    """All queues of a pool, those that a typo made included."""
    return await client.read_work_queues(work_pool_name=pool, limit=PAGE)
