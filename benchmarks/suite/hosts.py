"""j: the load of many idle hosts on a server, and how soon a job starts there."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.suite.database import database
from benchmarks.suite.report import OURS, Row
from benchmarks.suite.server import Server
from benchmarks.suite.sides import BOUND, running
from deployments.local import programs
from tasks.contracts import Pool
from tasks.settings import Settings
from tests.support import processes
from tests.support.platform import BIN, Platform, platform_up

_SLOTS = 4
_SETTLE = 60.0  # seconds until each host knows all others
_MEASURED = 60.0  # seconds
_JOBS = 10


def idle(home: Path, hosts: int) -> list[Row]:
    """Measure idle hosts on the pool `process` of one server on PostgreSQL.

    A host is a worker of four slots and its supervisor, in processes of this machine, without
    standbys. The peer is a stock worker with Prefect's own intervals, without crash detection.
    Cores are those of the server and its database; the usage of the hosts is not counted.
    """
    cores: dict[str, list[float]] = {}
    delays: dict[str, list[float]] = {}
    for who, start in {OURS: _ours, "stock workers": _stock}.items():
        place = home / who.split()[0]
        with database(place, "postgresql") as settings:
            own = {**settings, "PREFECTURE_STANDBY": "0"}
            with (
                platform_up(place / "up", "process", _SLOTS, settings=own) as up,
                ExitStack() as all,
            ):
                for number in range(1, hosts):
                    start(up, f"host-{number}", all)
                cores[who], delays[who] = _measured(up, hosts)
    many = f"{hosts} hosts of {_SLOTS} slots"
    return [
        Row("j", f"cores of a server, idle: {many}", "", cores),
        Row("j", f"submit to Running: {many}", "s", delays),
    ]


def _ours(up: Platform, name: str, all: ExitStack) -> None:
    settings = Settings(home=up.home, standby=0)
    worker = programs.worker(Pool.PROCESS, name, _SLOTS, settings)
    supervisor = programs.supervisor(Pool.PROCESS, name)
    log = up.home / name
    all.enter_context(running(*worker, env=programs.worker_env(settings, name, up.api), log=log))
    own = programs.supervisor_env(settings, name, up.api)
    all.enter_context(running(*supervisor, env=own, log=log.with_suffix(".supervisor")))


def _stock(up: Platform, name: str, all: ExitStack) -> None:
    command = (str(BIN / "prefect"), "worker", "start", "--pool", up.pool, "--type", up.pool)
    more = ("--name", name, "--limit", str(_SLOTS), "--install-policy", "never")
    env = dict(os.environ) | {
        "PREFECT_API_URL": up.api,
        "PREFECT_HOME": str(up.home / "stock"),
        "DO_NOT_TRACK": "1",
    }
    all.enter_context(running(*command, *more, env=env, log=up.home / name))


def _measured(up: Platform, hosts: int) -> tuple[list[float], list[float]]:
    """The cores that the server and its database use, and the seconds until a job is Running."""
    server = Server(up.api)
    path = f"/work_pools/{up.pool}/workers/filter"
    alive = {"workers": {"status": {"any_": ["ONLINE"]}}}
    server.wait("every worker", lambda: len(server.ask("POST", path, alive)) == hosts, every=1)
    time.sleep(_SETTLE)
    measured = [*processes.server(up), *_databases()]
    before = _cpu(measured)
    time.sleep(_MEASURED)
    cores = (_cpu(measured) - before) / _MEASURED
    deployment = up.deployment("find-primes/low")
    parameters = {"payload": {"upper_bound": BOUND}, "results_directory": "bench"}
    delays: list[float] = []
    for _ in range(_JOBS):
        began = time.time()
        run = server.make(deployment, parameters)
        delays.append(server.ended([run])[0].running - began)
    return [cores], delays


def _databases() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.name() == "postgres"]


def _cpu(measured: Iterable[psutil.Process]) -> float:
    """Seconds of CPU of the processes that still run."""
    used = 0.0
    for process in measured:
        if process.is_running():
            times = process.cpu_times()
            used += times.user + times.system
    return used
