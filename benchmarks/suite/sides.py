"""Who is compared: ours, a stock Prefect worker, Celery, and the bare start of an interpreter."""

# pyright: basic
# Celery has no types.

import os
import subprocess
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any, Protocol

import docker
import httpx

from benchmarks.suite.server import Server, Times
from tests.support.platform import BIN, Platform, ends_with_us, free_port

SLOTS = 2
TREE = Path(__file__).parents[2]
_POLL = "1"  # seconds; a tenth of a stock worker's default
_IMPORTS = "import prefect.engine, prefect.flow_engine, prefect.flows"
_BOUND = 10
_LONGER = 200_000_000  # primes up to it take some seconds
COLD = "prefecture, cold"
COLD_VARIABLES = {"mem_limit": "2047m"}
"""With limits of its own, a run finds no container that was started ahead."""

# What all of them run: primes up to 10, into a file.
_FLOW = """
from pathlib import Path
from uuid import uuid4
from prefect import flow

@flow
def find_primes(upper_bound: int, folder: str) -> int:
    from tasks import primes
    path = Path(folder) / f"{uuid4()}.parquet"
    return primes.write_primes(upper_bound, path, lambda fraction: None, threads=1).count
"""
_PLAIN = """
import sys
from pathlib import Path
from uuid import uuid4
from tasks import primes
path = Path(sys.argv[2]) / f"{uuid4()}.parquet"
primes.write_primes(int(sys.argv[1]), path, lambda fraction: None, threads=1)
"""
_CELERY = """
import subprocess
from celery import Celery
app = Celery("bench", broker={redis!r}, backend={redis!r})
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True)

@app.task(name="find_primes")
def find_primes(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
"""


class Side(Protocol):
    """One of those compared, with two slots."""

    def start(self) -> float:
        """Seconds from handing in one job, on an empty system, to its Running."""
        ...

    def drain(self, jobs: int) -> float:
        """Seconds that so many jobs take, all handed in before."""
        ...


@dataclass
class PrefectSide:
    """A deployment on a Prefect server."""

    server: Server
    pool: str
    deployment: str
    parameters: dict[str, Any]
    longer: dict[str, Any]
    """Parameters of a job of some seconds."""
    variables: dict[str, Any] = field(default_factory=dict[str, Any])
    """Job variables of each run."""

    def start(self) -> float:
        """See Side."""
        began = time.time()
        run = self.server.make(self.deployment, self.parameters, **self.variables)
        return self.server.ended([run])[0].running - began

    def drain(self, jobs: int) -> float:
        """See Side."""
        began, times = self._drained(jobs, self.parameters)
        return max(one.ended for one in times) - began

    def one_by_one(self, jobs: int) -> list[Times]:
        """The times of jobs of some seconds, of which one runs at a time, whatever the slots.

        So the machine has a core for whoever prepares the next.
        """
        path = f"/work_pools/{self.pool}"
        before = self.server.ask("GET", path)["concurrency_limit"]
        self.server.ask("PATCH", path, {"concurrency_limit": 1})
        _, times = self._drained(jobs, self.longer)
        self.server.ask("PATCH", path, {"concurrency_limit": before})
        return times

    def _drained(self, jobs: int, parameters: Mapping[str, Any]) -> tuple[float, list[Times]]:
        self.server.ask("PATCH", f"/work_pools/{self.pool}", {"is_paused": True})
        runs = self.server.make_many(self.deployment, [parameters] * jobs, **self.variables)
        began = time.time()
        self.server.ask("PATCH", f"/work_pools/{self.pool}", {"is_paused": False})
        return began, self.server.ended(runs)


@dataclass
class Commands:
    """The same command again and again, two at a time."""

    command: Sequence[str]

    def start(self) -> float:
        """Until it has ended: there is nothing in it but its start."""
        began = time.perf_counter()
        subprocess.run(self.command, check=True, capture_output=True, cwd=TREE)
        return time.perf_counter() - began

    def drain(self, jobs: int) -> float:
        """As `xargs -P2` would."""
        began = time.perf_counter()
        with ThreadPoolExecutor(SLOTS) as pool:
            for done in [pool.submit(self.start) for _ in range(jobs)]:
                done.result()
        return time.perf_counter() - began


def ours(platform: Platform, **variables: Any) -> PrefectSide:
    """`prefecture up`, as it comes; with job variables, where a run asks for its own."""
    short, longer = (
        {"payload": {"upper_bound": bound}, "results_directory": "bench"}
        for bound in (_BOUND, _LONGER)
    )
    deployment = platform.deployment("find-primes/high")
    return PrefectSide(Server(platform.api), platform.pool, deployment, short, longer, variables)


@contextmanager
def running(*command: str, env: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """A program for as long as the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(ends_with_us(*command), env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def stock(home: Path, pool: str, image: str) -> Generator[PrefectSide]:
    """Prefect's own server, worker and default template; a poll each second."""
    files, results = home / "flows", home / "results"
    for folder in (files, results):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    (files / "bench_flow.py").write_text(_FLOW)
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    env = dict(os.environ) | {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_WORKER_QUERY_SECONDS": _POLL,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PYTHONPATH": str(TREE),
    }
    prefect = str(BIN / "prefect")
    start = (prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with running(*start, env=env, log=home / "server.log"):
        server = Server(api)
        server.wait("a stock server", lambda: _answers(server))
        _said(env, prefect, "work-pool", "create", pool, "--type", pool)
        inside = "/opt/bench" if pool == "docker" else str(files)
        flow = server.ask("POST", "/flows/", {"name": "find-primes"})
        deployment = server.ask(
            "POST",
            "/deployments/",
            {
                "name": "bench",
                "flow_id": flow["id"],
                "entrypoint": f"{inside}/bench_flow.py:find_primes",
                "work_pool_name": pool,
                "job_variables": _variables(image, files, results) if pool == "docker" else {},
            },
        )
        worker = (prefect, "worker", "start", "--pool", pool, "--type", pool)
        limits = ("--limit", str(SLOTS), "--install-policy", "never")
        with running(*worker, *limits, env=env, log=home / "worker.log"):
            folder = "/opt/results" if pool == "docker" else str(results)
            short, longer = (
                {"upper_bound": bound, "folder": folder} for bound in (_BOUND, _LONGER)
            )
            yield PrefectSide(server, pool, deployment["id"], short, longer)
        if pool == "docker":
            _remove_containers(files)  # its worker leaves them


def _variables(image: str, files: Path, results: Path) -> dict[str, Any]:
    return {
        "image": image,
        "image_pull_policy": "Never",
        "network_mode": "host",  # the server listens on this machine alone
        "volumes": [f"{files}:/opt/bench:ro", f"{results}:/opt/results"],
        "mem_limit": "2g",
    }


def _remove_containers(mounted: Path) -> None:
    """Every container that has a folder mounted."""
    engine = docker.from_env()
    try:
        for one in engine.containers.list(all=True, ignore_removed=True):
            if any(mount.get("Source") == str(mounted) for mount in one.attrs["Mounts"]):
                one.remove(force=True)
    finally:
        engine.close()


def floor(pool: str, image: str) -> Commands:
    """An interpreter that imports what any flow run needs, and nothing else."""
    if pool == "docker":
        return Commands(("docker", "run", "--rm", image, "python", "-c", _IMPORTS))
    return Commands((sys.executable, "-c", _IMPORTS))


class Celery:
    """A Celery worker over Redis, each of whose tasks is a `docker run` of the same function."""

    def __init__(self, app: Any, command: Sequence[str]) -> None:
        self._app = app
        self._command = list(command)

    def start(self) -> float:
        """To its end: Celery does not say when a task has begun in its container."""
        return self.drain(1)

    def drain(self, jobs: int) -> float:
        """See Side."""
        began = time.perf_counter()
        sent = [self._app.send_task("find_primes", [self._command]) for _ in range(jobs)]
        for one in sent:
            one.get(timeout=600)
        return time.perf_counter() - began


@contextmanager
def celery(home: Path, image: str) -> Generator[Celery]:
    """Redis and a worker of two processes, as Celery's guide starts them."""
    import celery as library

    home.mkdir(parents=True)
    results = home / "results"
    results.mkdir()
    results.chmod(0o777)
    port = free_port()
    address = f"redis://127.0.0.1:{port}/0"
    (home / "bench_celery.py").write_text(_CELERY.format(redis=address))
    env = dict(os.environ) | {"PYTHONPATH": str(home)}
    redis = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home))
    worker = (sys.executable, "-m", "celery", "-A", "bench_celery", "worker", "-c", str(SLOTS))
    command = ("docker", "run", "--rm", "-v", f"{results}:/opt/results", "-m", "2g", image)
    with (
        running(found(redis[0]), *redis[1:], env=env, log=home / "redis.log"),
        running(*worker, env=env, log=home / "celery.log"),
    ):
        app = library.Celery("bench", broker=address, backend=address)
        yield Celery(app, (*command, "python", "-c", _PLAIN, str(_BOUND), "/opt/results"))


def found(program: str) -> str:
    """Where a program of Debian's is. Ends the benchmark where it is missing."""
    path = which(program)
    if path is None:
        raise SystemExit(f"{program} is not installed: `apt-get install {program}`, then again")
    return path


def _answers(server: Server) -> bool:
    try:
        return server.ask("GET", "/health") is True
    except httpx.HTTPError:
        return False


def _said(env: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
