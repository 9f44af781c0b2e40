"""Put pools, queues, blocks and deployments on a Prefect server; again is the same as once."""

import asyncio
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.filesystems import LocalFileSystem
from prefect.flows import load_flow_from_entrypoint

from deployments.folders import prepare_folders
from deployments.pools import TREE, apply_pools
from tasks.contracts import RESULT_BLOCK, Pool
from tasks.errors import OperatorError
from tasks.results.local import RECORDS
from tasks.settings import Settings, client_environment

PREFECT_YAML = TREE / "prefect.yaml"
_PAGE = 200


async def apply(pool: Pool, settings: Settings, api_url: str, image: str | None) -> int:
    """Bring the server at `api_url` up to date; deployments run on `pool`. Returns their number.

    Raises OperatorError where a flow does not import or the server refuses a deployment.
    """
    manifest: dict[str, Any] = yaml.safe_load(PREFECT_YAML.read_text())
    entrypoints = {entry["entrypoint"] for entry in manifest["deployments"]}
    _check_entrypoints(entrypoints)
    prepare_folders(settings, pool)
    async with get_client() as client:
        await apply_pools(client, settings, image)
        await LocalFileSystem(basepath=str(settings.results / RECORDS)).asave(
            RESULT_BLOCK, overwrite=True
        )
        await _deploy(manifest, pool, api_url)
        await _close_schemas(client, entrypoints)
    return len(manifest["deployments"])


def _check_entrypoints(entrypoints: Iterable[str]) -> None:
    """`prefect deploy` puts a placeholder in the place of a flow that does not import."""
    for entrypoint in sorted(entrypoints):
        try:
            load_flow_from_entrypoint(str(TREE / entrypoint), use_placeholder_flow=False)
        except Exception as error:
            raise OperatorError(f"{entrypoint} does not load: {error}") from error


async def _deploy(manifest: dict[str, Any], pool: Pool, api_url: str) -> None:
    """`prefect deploy --all` of prefect.yaml, on the pool that was chosen."""
    for entry in manifest["deployments"]:
        entry["work_pool"] = entry["work_pool"] | {"name": str(pool)}
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
