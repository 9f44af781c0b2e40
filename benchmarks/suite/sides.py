"""Two of the peers: Prefecture, and a stock Prefect worker."""

import os
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import docker
import httpx

from benchmarks.suite.server import Server, Times
from tests.support.platform import BIN, Platform, ends_with_us, free_port

SLOTS = 2
TREE = Path(__file__).parents[2]
_POLL = "1"  # seconds; a tenth of a stock worker's default
BOUND = 10
"""Upper bound of the primes that a job finds."""
_LONGER = 3_000_000_000  # a bound that takes some seconds
COLD = "prefecture, cold"
COLD_VARIABLES = {"mem_limit": "2047m"}
"""A run with its own limits does not use a standby container."""

# The flow of the stock worker, with the work of our job: primes into a file.
_FLOW = """
from pathlib import Path
from uuid import uuid4
from prefect import flow

@flow
def find_primes(upper_bound: int, folder: str) -> int:
    from tasks.primes import sieve
    path = Path(folder) / f"{uuid4()}.parquet"
    return sieve.write_primes(upper_bound, path, lambda fraction: None, threads=1).count
"""


class Side(Protocol):
    """A system that is compared, with two slots."""

    def start(self) -> float:
        """Seconds from submitting one job, on an idle system, to its Running."""
        ...

    def drain(self, jobs: int) -> float:
        """Seconds to run `jobs` jobs that were submitted before."""
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
        began, times = self.drained(jobs)
        return max(one.ended for one in times) - began

    def drained(self, jobs: int) -> tuple[float, list[Times]]:
        """Submit jobs, then resume the pool. Returns that moment, and the times of each job."""
        return self._drained(jobs, self.parameters)

    def one_by_one(self, jobs: int) -> list[Times]:
        """The times of jobs of some seconds that run one at a time, whatever the slots.

        So a core is free to prepare the next job.
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


def ours(platform: Platform, **variables: Any) -> PrefectSide:
    """`prefecture up` with its default settings, and with job variables for each run."""
    short, longer = (
        {"payload": {"upper_bound": bound}, "results_directory": "bench"}
        for bound in (BOUND, _LONGER)
    )
    deployment = platform.deployment("find-primes/high")
    return PrefectSide(Server(platform.api), platform.pool, deployment, short, longer, variables)


@contextmanager
def running(*command: str, env: dict[str, str], log: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a program while the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(ends_with_us(*command), env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()  # a stock worker whose server hangs does not exit
            process.wait(60)


@contextmanager
def stock(home: Path, pool: str, image: str) -> Generator[PrefectSide]:
    """Run Prefect's own server and worker with its default template and a poll each second."""
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
        _run(env, prefect, "work-pool", "create", pool, "--type", pool)
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
            short, longer = ({"upper_bound": bound, "folder": folder} for bound in (BOUND, _LONGER))
            yield PrefectSide(server, pool, deployment["id"], short, longer)
        if pool == "docker":
            _remove_containers(files)  # the stock worker leaves them


def _variables(image: str, files: Path, results: Path) -> dict[str, Any]:
    return {
        "image": image,
        "image_pull_policy": "Never",
        "network_mode": "host",  # the server listens only on this machine
        "volumes": [f"{files}:/opt/bench:ro", f"{results}:/opt/results"],
        "mem_limit": "2g",
    }


def _remove_containers(mounted: Path) -> None:
    """Remove every container that has a folder mounted."""
    engine = docker.from_env()
    try:
        for one in engine.containers.list(all=True, ignore_removed=True):
            if any(mount.get("Source") == str(mounted) for mount in one.attrs["Mounts"]):
                one.remove(force=True)
    finally:
        engine.close()


def _answers(server: Server) -> bool:
    try:
        return server.ask("GET", "/health") is True
    except httpx.HTTPError:
        return False


def _run(env: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr or done.stdout}")
    return done.stdout
