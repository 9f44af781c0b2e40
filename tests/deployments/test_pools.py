"""What `prefecture apply` writes to a pool, and what it leaves to others, on a real server."""

from typing import Any

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate

from deployments.pools import apply_pools
from tasks.contracts import PLATFORM_POOL, Pool
from tasks.settings import Settings
from tests.support.platform import Platform
from tests.support.session.environment import PASSWORD


class Hasty(PrefectClient):
    """A client beside which another, a supervisor's, writes just before each of its writes."""

    other: WorkPoolUpdate

    async def create_work_pool(self, work_pool: WorkPoolCreate, overwrite: bool = False) -> Any:
        await super().update_work_pool(work_pool.name, self.other)
        return await super().create_work_pool(work_pool, overwrite)


async def test_what_is_said_of_a_pool_while_it_is_brought_up_to_date_stands(
    process_platform: Platform,
) -> None:
    pools = [Pool.DOCKER, Pool.PROCESS, PLATFORM_POOL]

    def said() -> list[tuple[bool, int | None]]:
        found = [process_platform.rest("GET", f"/work_pools/{pool}").json() for pool in pools]
        return [(pool["is_paused"], pool["concurrency_limit"]) for pool in found]

    before = said()
    try:
        async with Hasty(process_platform.api, auth_string=PASSWORD) as client:
            for paused, limit in ((True, 7), (False, None)):
                client.other = WorkPoolUpdate(is_paused=paused, concurrency_limit=limit)
                own = Settings(home=process_platform.home)
                await apply_pools(client, own, None, None, Pool.PROCESS)
                assert said() == [(paused, limit)] * len(pools)
    finally:
        for pool, (paused, limit) in zip(pools, before, strict=True):
            body = {"is_paused": paused, "concurrency_limit": limit}
            process_platform.rest("PATCH", f"/work_pools/{pool}", body)
