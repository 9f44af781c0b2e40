"""python -m work_pools.worker --pool POOL --name NAME --limit N [--standby N] [--reuse N]
[--low-waits SECONDS] [--internal-network [--reach HOST:PORT ...]]
"""

from tasks.runtime.importing import importing

with importing():
    import argparse
    import asyncio
    from collections.abc import Sequence
    from functools import partial
    from typing import Any

    from prefect.logging.configuration import setup_logging
    from prefect.settings import (
        PREFECT_WORKER_HEARTBEAT_SECONDS,
        PREFECT_WORKER_PREFETCH_SECONDS,
    )

    from tasks.contracts import Pool
    from work_pools.worker.signals import until_stopped
    from work_pools.worker.workers import PromptDockerWorker, PromptProcessWorker

_say = partial(print, flush=True)


async def work(pool: Pool, *, reachable: Sequence[str] | None = None, **options: Any) -> None:
    """Serve a pool until SIGTERM or SIGINT, as `prefect worker start` does.

    `reachable`: see InternalNetwork; for containers only. `options`: those of the worker.
    """
    make = PromptProcessWorker
    if pool is Pool.DOCKER:
        make = partial(PromptDockerWorker, reachable=reachable)
    worker = make(
        **options,
        work_pool_name=pool,
        prefetch_seconds=PREFECT_WORKER_PREFETCH_SECONDS.value(),
        heartbeat_interval_seconds=int(PREFECT_WORKER_HEARTBEAT_SECONDS.value()),
        create_pool_if_not_found=False,
    )
    await until_stopped(worker.start(printer=_say), _say)


def main() -> None:
    """Read the command line, and run the worker."""
    parser = argparse.ArgumentParser(prog="python -m work_pools.worker")
    parser.add_argument("--pool", type=Pool, choices=list(Pool), required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--limit", type=int, required=True, help="jobs at once")
    parser.add_argument("--standby", type=int, default=0, help="standby instances to keep")
    parser.add_argument(
        "--reuse", type=int, default=1, help="jobs that each standby instance serves"
    )
    parser.add_argument(
        "--low-waits", type=int, help="seconds after which a run of low comes before normal"
    )
    parser.add_argument(
        "--internal-network", action="store_true", help="a closed network for containers of jobs"
    )
    parser.add_argument(
        "--reach", action="append", default=[], help="a HOST:PORT that is reached from it"
    )
    given = parser.parse_args()
    setup_logging()
    try:
        asyncio.run(
            work(
                given.pool,
                reachable=given.reach if given.internal_network else None,
                standby=given.standby,
                reuse=given.reuse,
                low_waits=given.low_waits,
                name=given.name,
                limit=given.limit,
            )
        )
    except asyncio.CancelledError:
        _say(f"Worker {given.name!r} stopped!")


if __name__ == "__main__":
    main()
