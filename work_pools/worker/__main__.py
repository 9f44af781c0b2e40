"""python -m work_pools.worker --pool POOL --name NAME --limit N [--standby N] [--reuse N]
[--low-waits SECONDS] [--fair-share SECONDS] [--network internal|open] [--reach HOST:PORT ...]
[--broker FOLDER] [--memory BYTES] [--cpus N] [--gpus IDS] [--label TEXT ...]
"""

from tasks.runtime.importing import importing

with importing():
    import argparse
    import asyncio
    import os
    from collections.abc import Callable, Sequence
    from functools import partial
    from pathlib import Path
    from typing import Any

    import psutil
    from prefect.logging.configuration import setup_logging
    from prefect.settings import (
        PREFECT_WORKER_HEARTBEAT_SECONDS,
        PREFECT_WORKER_PREFETCH_SECONDS,
    )
    from prefect.workers.base import BaseWorker

    from tasks.contracts import MOST_CPUS, MOST_MEMORY, Pool, Resources
    from work_pools.worker.signals import until_stopped
    from work_pools.worker.workers import PromptDockerWorker, PromptProcessWorker

_say = partial(print, flush=True)
# There is no standby in ECS, and Fargate has no GPUs.
_OF_ECS = ("name", "limit", "offer", "low_waits", "fair_share")


async def work(
    pool: Pool,
    *,
    network: str | None = None,
    reachable: Sequence[str] = (),
    broker: Path | None = None,
    **options: Any,
) -> None:
    """Serve a pool until SIGTERM or SIGINT, as `prefect worker start` does.

    `network`, `reachable`: see InternalNetwork, `broker`: see EngineBroker; for containers only.
    `options`: those of the worker.
    """
    make: Callable[..., BaseWorker[Any, Any, Any]] = PromptProcessWorker
    if pool is Pool.DOCKER:
        make = partial(PromptDockerWorker, network=network, reachable=reachable, broker=broker)
    if pool is Pool.ECS:
        # Imported here alone: this takes a second.
        from work_pools.worker.ecs.worker import PromptEcsWorker

        make = PromptEcsWorker
        options = {name: options[name] for name in _OF_ECS}
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
        "--fair-share", type=int, help="seconds after which half of a user's usage counts"
    )
    parser.add_argument(
        "--network",
        choices=["internal", "open"],
        help="of containers of jobs; default: internal, where this host can have it",
    )
    parser.add_argument(
        "--reach", action="append", default=[], help="a HOST:PORT that is reached from it"
    )
    parser.add_argument(
        "--broker",
        type=Path,
        help="the folder of a broker's socket, which jobs get in place of the engine's",
    )
    parser.add_argument(
        "--memory", type=int, help="bytes; default: this machine's, or all of Fargate's"
    )
    parser.add_argument("--cpus", type=float, help="default: this machine's")
    parser.add_argument("--gpus", default="", help="their ids, separated by commas")
    parser.add_argument("--label", action="append", default=[], help="a label of this host")
    given = parser.parse_args()
    elsewhere = given.pool is Pool.ECS  # each job has a machine of its own
    gpus = [id for id in given.gpus.split(",") if id]
    offer = Resources(
        memory=given.memory or (MOST_MEMORY if elsewhere else psutil.virtual_memory().total),
        cpus=given.cpus or (MOST_CPUS if elsewhere else os.cpu_count()) or 1,
        gpus=0 if elsewhere else len(gpus),
        labels=frozenset(given.label),
    )
    setup_logging()
    try:
        asyncio.run(
            work(
                given.pool,
                network=given.network,
                reachable=given.reach,
                broker=given.broker,
                offer=offer,
                gpus=gpus,
                standby=given.standby,
                reuse=given.reuse,
                low_waits=given.low_waits,
                fair_share=given.fair_share,
                name=given.name,
                limit=given.limit,
            )
        )
    except asyncio.CancelledError:
        _say(f"Worker {given.name!r} stopped!")


if __name__ == "__main__":
    main()
