"""Put pools, queues, blocks and deployments on a Prefect server; again is the same as once."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.flows import load_flow_from_entrypoint

from deployments.folders import prepare_folders
from deployments.notifications.declaration import read_subscribers
from deployments.notifications.registration import declaration, prepare
from deployments.pools import TREE, apply_pools, engine_volume
from deployments.result_block import save_result_block
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.errors import OperatorError
from tasks.settings import Settings, client_environment, engine_socket

PREFECT_YAML = TREE / "prefect.yaml"
_PAGE = 200


async def apply(
    pool: Pool,
    settings: Settings,
    api_url: str,
    image: str | None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Bring the server at `api_url` up to date; deployments run on `pool`. Returns their number.

    Raises OperatorError where a flow does not import, the server refuses a deployment, or the
    subscribers to notifications are not declared as they should be. Of one who cannot be reached,
    for a block that is missing perhaps, `warn` is told where it is given: it takes a server that
    runs to make the block on.
    """
    manifest: dict[str, Any] = yaml.safe_load(PREFECT_YAML.read_text())
    of_jobs = {e["entrypoint"] for e in manifest["deployments"] if not _is_platform(e)}
    of_platform = {e["entrypoint"] for e in manifest["deployments"] if _is_platform(e)}
    tasks = _load_names(of_jobs)
    _load_names(of_platform)
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
        await _deploy(manifest, pool, api_url, of_engine, schedules=settings.analytics)
        await _close_schemas(client, of_jobs | of_platform)
        await registration.put(client, settings)
    return len(manifest["deployments"])


def _load_names(entrypoints: Iterable[str]) -> set[str]:
    """The flows' names; `prefect deploy` puts a placeholder in the place of one that is broken."""
    names: set[str] = set()
    for entrypoint in sorted(entrypoints):
        try:
            flow = load_flow_from_entrypoint(str(TREE / entrypoint), use_placeholder_flow=False)
        except Exception as error:
            raise OperatorError(f"{entrypoint} does not load: {error}") from error
        names.add(flow.name)
    return names


def _is_platform(entry: dict[str, Any]) -> bool:
    return entry["work_pool"]["name"] == PLATFORM_POOL


async def _deploy(
    manifest: dict[str, Any], pool: Pool, api_url: str, socket: Path | None, *, schedules: bool
) -> None:
    """`prefect deploy --all` of prefect.yaml, jobs on the pool that was chosen."""
    for entry in manifest["deployments"]:
        variables = dict(entry["work_pool"].get("job_variables", {}))
        if variables.pop("engine", None) and socket is not None:
            variables["engine"] = engine_volume(socket)
        if not _is_platform(entry):
            entry["work_pool"] = entry["work_pool"] | {
                "name": str(pool),
                "job_variables": variables,
            }
        entry["schedules"] = [s | {"active": schedules} for s in entry.get("schedules", [])]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(manifest))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "prefect", "--no-prompt"),
            *("deploy", "--all", "--prefect-file", str(file)),
            cwd=TREE,
            env=client_environment(PREFECT_API_URL=api_url, PREFECT_HOME=folder),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    if process.returncode:
        last = output.decode(errors="replace").strip().splitlines()[-5:]
        raise OperatorError("prefect deploy --all failed: " + " ".join(" ".join(last).split()))


async def _close_schemas(client: PrefectClient, entrypoints: set[str]) -> None:
    """Have the server refuse unknown parameters.

    The schema that `prefect deploy` makes leaves them to the engine, which can only crash on them.
    """
    for offset in range(0, sys.maxsize, _PAGE):
        page = await client.read_deployments(limit=_PAGE, offset=offset)
        for deployment in page:
            schema = deployment.parameter_openapi_schema
            if deployment.entrypoint in entrypoints and schema:
                await client.update_deployment(
                    deployment.id,
                    DeploymentUpdate(
                        parameter_openapi_schema=schema | {"additionalProperties": False}
                    ),
                )
        if len(page) < _PAGE:
            return
