"""What two protections cost the start of a job: its confinement, and the check of its requests.

    python -m benchmarks.isolation [--rounds 100]

Both are CPU time, and measured beside the same without them, in turn, in one run: a busy machine
makes both dearer.

- **confinement**: a process that has imported what jobs import forks, as a fork server does. The
  child counts that of `confined` with PREFECTURE_CONFINE on or off, its end included.
- **requests**: the server of `prefecture up` answers a read of a run, with the token of that run or
  with the password, ten times over a connection that is kept. A job makes some twenty requests.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from uuid import UUID, uuid4

import httpx
import psutil
from prefect.client.schemas.objects import FlowRun

from benchmarks.suite.machine import describe
from tasks.prefect_api import run_tokens
from tasks.settings import adopt
from tests.support.platform import platform_up
from tests.support.processes import server
from tests.support.session.environment import PASSWORD
from work_pools.entrypoint import landlock
from work_pools.entrypoint.confinement import confined

_MS = 1000
_REQUESTS = 10


def confinement(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of a child, by whether it is confined."""
    (folder / "home" / "results").mkdir(parents=True)
    adopt({"PREFECTURE_HOME": str(folder / "home")})
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 1):
        for wanted in ("true", "false"):
            seconds = _of_a_child(wanted)
            if turn:  # the first is a warm-up
                found["confined" if wanted == "true" else "not confined"].append(seconds * _MS)
    return found


def _of_a_child(wanted: str) -> float:
    end, own = os.pipe()
    if (child := os.fork()) == 0:
        adopt({"PREFECTURE_CONFINE": wanted})
        run = FlowRun(id=uuid4(), flow_id=uuid4(), parameters={"results_directory": "a/b"})
        began = time.process_time()
        with confined(run):
            pass
        os.write(own, json.dumps(time.process_time() - began).encode())
        os._exit(0)
    os.close(own)
    os.waitpid(child, 0)
    with os.fdopen(end, "rb") as reader:
        return json.loads(reader.read())


def requests(folder: Path, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of CPU of the server for a request, by what it comes with."""
    found: dict[str, list[float]] = defaultdict(list)
    with platform_up(folder, "process") as up:
        created = up.create(
            "find-primes/low",
            parameters={"payload": {"upper_bound": 10**9}, "results_directory": "a"},
        )
        run = UUID(created.json()["id"])
        sent = {"token": run_tokens.make(run, PASSWORD), "password": PASSWORD}
        clients = {name: httpx.Client(auth=_split(auth), timeout=60) for name, auth in sent.items()}
        for turn in range(rounds + 1):
            for name, client in clients.items():
                before = _cpu_of(server(up))
                for _ in range(_REQUESTS):
                    client.get(f"{up.api}/flow_runs/{run}").raise_for_status()
                if turn:
                    found[name].append((_cpu_of(server(up)) - before) / _REQUESTS * _MS)
        for client in clients.values():
            client.close()
    return found


def _cpu_of(processes: Sequence[psutil.Process]) -> float:
    """Seconds of CPU that processes have used, in nanoseconds' precision: the first word of a
    thread's schedstat."""
    threads = [each for one in processes for each in Path(f"/proc/{one.pid}/task").iterdir()]
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9


def _split(auth: str) -> tuple[str, str]:
    user, _, password = auth.partition(":")
    return user, password


def main() -> None:
    """Measure, and print medians and the median of the differences, in milliseconds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    print(json.dumps({**describe(), "landlock": landlock.version()}, indent=1))
    # Not in /tmp: each file beside the home, and beside each folder above it, costs a rule.
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:
        for measure in (confinement, requests):
            found = measure(Path(place) / measure.__name__, rounds)
            (first, ones), (second, others) = found.items()
            paired = median(one - other for one, other in zip(ones, others, strict=True))
            print(
                f"{measure.__name__}: {first} {median(ones):.2f} ms, {second} "
                f"{median(others):.2f} ms; {first} less {second} {paired:+.2f} ms, paired"
            )


if __name__ == "__main__":
    main()
