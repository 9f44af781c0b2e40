"""python -m work_pools.supervisor --pool docker|process|ecs --worker NAME"""

from tasks.runtime.importing import importing

with importing():
    import argparse
    import asyncio
    import contextlib
    import logging
    import signal
    import socket

    from prefect.client.orchestration import get_client

    from tasks.contracts import Pool
    from tasks.prefect_api.ecs import ecs_cluster
    from tasks.prefect_api.ending import end_in_time
    from tasks.settings import get_settings
    from work_pools.supervisor.heartbeat import beat
    from work_pools.supervisor.infrastructure.containers import Containers
    from work_pools.supervisor.infrastructure.ecs_tasks import EcsTasks
    from work_pools.supervisor.infrastructure.instance import Instances
    from work_pools.supervisor.infrastructure.processes import Processes
    from work_pools.supervisor.supervisor import Supervisor


async def supervise(pool: Pool, worker: str, heartbeat: int | None = None) -> None:
    """Supervise the pool's jobs until SIGTERM or SIGINT.

    `heartbeat`: the descriptor of a pipe that receives a byte every second.
    """
    loop = asyncio.get_running_loop()
    instances = _instances(pool, worker)
    async with get_client() as client:
        supervisor = Supervisor(
            client, pool, socket.gethostname(), worker, instances, get_settings()
        )
        work = asyncio.create_task(supervisor.run())
        beating = None if heartbeat is None else asyncio.create_task(beat(heartbeat))

        def stop() -> None:
            end_in_time("supervisor")
            work.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            if beating is not None:
                beating.cancel()
            await instances.close()


def _instances(pool: Pool, worker: str) -> Instances:
    match pool:
        case Pool.DOCKER:
            return Containers()
        case Pool.PROCESS:
            return Processes(worker, pool)
        case Pool.ECS:
            return EcsTasks(ecs_cluster(get_settings()))


def main() -> None:
    """Read the command line, and run the supervisor."""
    parser = argparse.ArgumentParser(prog="python -m work_pools.supervisor")
    parser.add_argument("--pool", type=Pool, choices=list(Pool), required=True)
    parser.add_argument("--worker", required=True, help="the worker that this host runs")
    parser.add_argument("--heartbeat", type=int, help="descriptor of a pipe for heartbeats")
    given = parser.parse_args()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(supervise(given.pool, given.worker, given.heartbeat))


if __name__ == "__main__":
    main()
