"""Two of the peers: Celery, and the bare start of an interpreter."""

# pyright: basic
# Celery has no types.

import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

from benchmarks.suite.sides import BOUND, SLOTS, TREE, running
from tests.support.platform import free_port

_IMPORTS = "import prefect.engine, prefect.flow_engine, prefect.flows"

# The same work as our job: primes into a file.
_PLAIN = """
import sys
from pathlib import Path
from uuid import uuid4
from tasks.primes import sieve
path = Path(sys.argv[2]) / f"{uuid4()}.parquet"
sieve.write_primes(int(sys.argv[1]), path, lambda fraction: None, threads=1)
"""
_CELERY = """
import subprocess
from celery import Celery
app = Celery("bench", broker={redis!r}, backend={redis!r})
app.conf.update(worker_prefetch_multiplier=1, task_acks_late=True)

@app.task(name="in_container")
def in_container(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout

@app.task(name="in_process")
def in_process(bound, folder):
    from pathlib import Path
    from uuid import uuid4
    from tasks.primes import sieve
    path = Path(folder) / f"{{uuid4()}}.parquet"
    sieve.write_primes(bound, path, lambda fraction: None, threads=1)
"""


@dataclass
class Commands:
    """One command, run repeatedly, two processes at a time."""

    command: Sequence[str]

    def start(self) -> float:
        """Seconds until the command has exited: it does no work besides its start."""
        began = time.perf_counter()
        subprocess.run(self.command, check=True, capture_output=True, cwd=TREE)
        return time.perf_counter() - began

    def drain(self, jobs: int) -> float:
        """Seconds for `jobs` runs of the command, like `xargs -P2`."""
        began = time.perf_counter()
        with ThreadPoolExecutor(SLOTS) as pool:
            for done in [pool.submit(self.start) for _ in range(jobs)]:
                done.result()
        return time.perf_counter() - began


def floor(pool: str, image: str) -> Commands:
    """An interpreter that only imports the modules of every flow run."""
    if pool == "docker":
        return Commands(("docker", "run", "--rm", image, "python", "-c", _IMPORTS))
    return Commands((sys.executable, "-c", _IMPORTS))


class Celery:
    """A Celery worker over Redis, and the task that is sent to it."""

    def __init__(self, app: Any, task: str, arguments: Sequence[Any]) -> None:
        self._app = app
        self._task = task
        self._arguments = list(arguments)

    def start(self) -> float:
        """Seconds until a task has ended: Celery does not report when it began in its container."""
        return self.drain(1)

    def drain(self, jobs: int) -> float:
        """See Side."""
        began = time.perf_counter()
        sent = [self._app.send_task(self._task, self._arguments) for _ in range(jobs)]
        for one in sent:
            one.get(timeout=600)
        return time.perf_counter() - began


@contextmanager
def celery(home: Path, pool: str, image: str) -> Generator[Celery]:
    """Run Redis and a worker of two processes, started as in Celery's guide.

    For the pool `docker` each task is a `docker run` of the function that our job calls; for the
    pool `process` the worker's processes call it.
    """
    import celery as library

    home.mkdir(parents=True)
    results = home / "results"
    results.mkdir()
    results.chmod(0o777)
    port = free_port()
    address = f"redis://127.0.0.1:{port}/0"
    (home / "bench_celery.py").write_text(_CELERY.format(redis=address))
    env = dict(os.environ) | {"PYTHONPATH": f"{home}:{TREE}"}
    redis = ("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home))
    worker = (sys.executable, "-m", "celery", "-A", "bench_celery", "worker", "-c", str(SLOTS))
    command = ("docker", "run", "--rm", "-v", f"{results}:/opt/results", "-m", "2g", image)
    with (
        running(found(redis[0]), *redis[1:], env=env, log=home / "redis.log"),
        running(*worker, env=env, log=home / "celery.log"),
    ):
        app = library.Celery("bench", broker=address, backend=address)
        if pool == "process":
            yield Celery(app, "in_process", [BOUND, str(results)])
        else:
            in_container = (*command, "python", "-c", _PLAIN, str(BOUND), "/opt/results")
            yield Celery(app, "in_container", [in_container])


def found(program: str) -> str:
    """The path of a program from Debian. Raises SystemExit where it is not installed."""
    path = which(program)
    if path is None:
        raise SystemExit(f"{program} is not installed: run `apt-get install {program}`")
    return path
