"""How strictly workers keep to the order of the queues, with many jobs in them.

    .venv/bin/python -m benchmarks.queue_order [--jobs 1000] [--workers 2] [--slots 1]
        [--database sqlite|postgresql] [--servers 1] [--taken 200] [--users 1]
        [--fair-share SECONDS]

Jobs of mixed priority wait, as many in each queue. Workers of ours take `--taken` of them, which
end at once: it measures only what workers do between a free slot and the start of a job. Prints how
many jobs took the slot of another one, how many jobs a second were taken, and the CPU time of the
servers and the workers. With `--servers` several API servers use the database; the workers are
spread over them. With `--users` the jobs of the first user are submitted before those of the
second, and so on; the shares of all are printed.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, PREFECT_WORKER_QUERY_SECONDS, temporary_settings
from prefect.states import Completed
from prefect.workers.process import ProcessWorker, ProcessWorkerResult

from benchmarks.suite.database import database
from benchmarks.suite.server import Server
from tasks.contracts import Queue, Resources, user_of
from tests.support.migrated import put_database
from tests.support.platform import BIN, free_port, is_ready
from tests.support.servers import running
from tests.support.several.served import inversions
from work_pools.worker.order.fair_share import FairShare
from work_pools.worker.order.low_waits import LowWaits
from work_pools.worker.prefect_internals import SparingPaused, WithoutSubmitting
from work_pools.worker.prompt import Prompt
from work_pools.worker.reading_once import ReadingOnce

_POOL = "order"
_BATCH = 500  # jobs in one request


class Ending(ProcessWorker):
    """A worker whose jobs end as soon as they start. `taken`: gets them; it takes `most`."""

    type = "ending"

    def __init__(self, *args: Any, taken: list[FlowRun], most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._taken, self._most = taken, most

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker."""
        return [] if len(self._taken) >= self._most else await super().get_and_submit_flow_runs()

    async def run(self, flow_run: FlowRun, configuration: Any, task_status: Any = None) -> Any:
        """See BaseWorker."""
        self._taken.append(flow_run)
        task_status.started("none")
        await self.client.set_flow_run_state(flow_run.id, Completed(), force=True)
        return ProcessWorkerResult(status_code=0, identifier="none")


class Taking(  # pyright: ignore[reportIncompatibleVariableOverride]
    Prompt, LowWaits, FairShare, ReadingOnce, WithoutSubmitting, SparingPaused, Ending
):
    """A worker of ours, without infrastructure."""

    type = "taking"


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--taken", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slots", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--users", type=int, default=1)
    parser.add_argument("--fair-share", type=int)
    given = parser.parse_args()
    logging.disable(logging.INFO)  # two lines for each job
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL runs as another user
        with _servers(home, given.database, given.servers) as servers:
            wanted = _submit(Server(next(iter(servers))), given.jobs, given.users)
            print(asyncio.run(_measure(servers, wanted, given)))


@contextmanager
def _servers(home: Path, kind: str, count: int) -> Generator[Mapping[str, psutil.Process]]:
    """API servers of one database. Yields their processes, by the addresses of their APIs."""
    with database(home, kind) as settings, ExitStack() as stack:
        if kind == "sqlite":
            put_database(home)
        own = {"PREFECT_HOME": str(home / "prefect"), "DO_NOT_TRACK": "1", **settings}
        words = [f"{name}={value}" for name, value in own.items()]
        started: dict[str, psutil.Process] = {}
        # The first one makes the tables, and alone runs the background services.
        for number in range(count):
            port = free_port()
            program = (str(BIN / "python"), "-m", "deployments.server.program", "127.0.0.1")
            command = ("/usr/bin/env", *words, *program, str(port), *["--no-services"][:number])
            api = f"http://127.0.0.1:{port}/api"
            log = home / f"server-{number}.log"
            ready = partial(is_ready, api)
            server = stack.enter_context(running("a server", command, log, ready))
            started[api] = psutil.Process(server.pid)
        yield started


def _submit(server: Server, jobs: int, users: int) -> list[str]:
    """Submit jobs, the least urgent first. Returns their ids in the order of the queues."""
    server.ask("POST", "/work_pools/", {"name": _POOL, "type": Taking.type})
    flow = server.ask("POST", "/flows/", {"name": _POOL})["id"]
    made: Mapping[str, list[str]] = {queue: [] for queue in Queue}
    paths: dict[str, str] = {}
    for priority, queue in enumerate(Queue, 1):
        body = {"name": queue, "priority": priority}
        server.ask("POST", f"/work_pools/{_POOL}/queues", body)
        body = {"name": queue, "flow_id": flow, "work_pool_name": _POOL, "work_queue_name": queue}
        paths[queue] = f"/deployments/{server.ask('POST', '/deployments/', body)['id']}/create_jobs"
    share = jobs // len(Queue) // users
    for queue in reversed(Queue):
        for user in range(users):
            for start in range(0, share, _BATCH):
                keys = [str(uuid4()) for _ in range(min(_BATCH, share - start))]
                new: list[Any] = [{"parameters": {}, "idempotency_key": key} for key in keys]
                body = {"jobs": new, "tags": [f"user:{user}"]}
                made[queue] += server.ask("POST", paths[queue], body)
    return [job for queue in Queue for job in made[queue]]


async def _measure(
    servers: Mapping[str, psutil.Process], wanted: Sequence[str], given: argparse.Namespace
) -> str:
    taken: list[FlowRun] = []
    used, began = _cpu(servers.values()), time.perf_counter()
    tasks: list[asyncio.Task[None]] = []
    for number, api in zip(range(given.workers), cycle(servers), strict=False):
        changed: dict[Any, Any] = {PREFECT_API_URL: api, PREFECT_WORKER_QUERY_SECONDS: 2.0}
        with temporary_settings(changed):  # a task keeps those under which it was made
            worker = Taking(
                work_pool_name=_POOL,
                name=f"worker-{number}",
                limit=given.slots,
                offer=Resources(),
                fair_share=given.fair_share,
                prefetch_seconds=0,
                create_pool_if_not_found=False,
                taken=taken,
                most=given.taken,
            )
            tasks.append(asyncio.create_task(worker.start(printer=_silent)))
    while len(taken) < given.taken:
        await asyncio.sleep(0.1)
        for task in tasks:
            if task.done():
                task.result()
    took = time.perf_counter() - began
    used = _cpu(servers.values()) - used
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    slots = given.workers * given.slots
    order = [str(run.id) for run in taken]
    shares = Counter(user_of(run.tags) for run in taken if run.work_queue_name == Queue.NORMAL)
    return (
        f"{given.database}, {given.servers} servers, {given.jobs:,} jobs, "
        f"{given.workers} workers of {given.slots}: "
        f"{inversions(wanted, order, slots)} of {len(order)} took the slot of another job, "
        f"{len(order) / took:.1f}/s, {used / len(order) * 1000:.0f} ms of CPU each; in normal by "
        f"user: {dict(sorted(shares.items(), key=str))}"
    )


def _silent(_: str) -> None:
    """Print nothing."""


def _cpu(servers: Iterable[psutil.Process]) -> float:
    """CPU seconds of the servers and of this process."""
    times = [each.cpu_times() for each in (*servers, psutil.Process())]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    main()
