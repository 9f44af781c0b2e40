"""Put pools, queues, blocks and deployments on a Prefect server; idempotent."""

from collections.abc import Callable

from prefect import get_client

from deployments.deploy import deploy
from deployments.ecs.checks import check_ecs
from deployments.folders import prepare_folders
from deployments.notifications.declaration import read_subscribers
from deployments.notifications.registration import declaration, prepare
from deployments.pools import apply_pools
from deployments.program import read_program
from deployments.result_block import save_result_block
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import Settings, engine_socket


async def apply(
    pool: Pool,
    settings: Settings,
    image: str | None,
    warn: Callable[[str], None] | None = None,
) -> int:
    """Bring the server up to date; deployments run on `pool`. Returns their number.

    Raises OperatorError where a flow does not import, the server refuses a deployment, or the
    declaration of the subscribers is invalid. Where a subscriber's channel or the results cannot
    be used yet, for example because a block is missing, calls `warn` if it is given, and raises
    OperatorError otherwise: the block can be made only on a running server.
    """
    program = read_program()
    tasks = {deployment.flow.name for deployment in program if not deployment.of_platform}
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
        if pool is Pool.ECS:
            await check_ecs(settings, image)
        await apply_pools(client, settings, image, socket, pool)
        of_engine = socket if pool is Pool.DOCKER else None
        await deploy(client, program, pool, of_engine, schedules=settings.analytics)
        await registration.put(client, settings)
    return len(program)
