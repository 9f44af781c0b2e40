"""Put pools, queues, blocks and deployments on a Prefect server; again is the same as once."""

from collections.abc import Callable, Iterable
from typing import Any

import yaml
from prefect import Flow, get_client
from prefect.flows import load_flow_from_entrypoint

from deployments.deploy import deploy, is_platform
from deployments.folders import prepare_folders
from deployments.notifications.declaration import read_subscribers
from deployments.notifications.registration import declaration, prepare
from deployments.pools import TREE, apply_pools
from deployments.result_block import save_result_block
from tasks.contracts import Pool
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
    tasks = {flows[e["entrypoint"]].name for e in manifest["deployments"] if not is_platform(e)}
    subscribers = read_subscribers(declaration(settings), tasks)
    prepare_folders(settings, pool)
    async with get_client() as client:
        registration = await prepare(client, settings, subscribers)
        for fault in registration.faults:
            if warn is None:
                raise OperatorError(fault)
            warn(f"{fault}; then run prefecture apply")
        socket = engine_socket()
        if fault := await save_result_block(settings):
            if warn is None:
                raise OperatorError(fault)
            warn(f"{fault}; then run prefecture apply")
        await apply_pools(client, settings, image, socket)
        of_engine = socket if pool is Pool.DOCKER else None
        await deploy(client, manifest, flows, pool, of_engine, schedules=settings.analytics)
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
