"""The load of many jobs on several hosts: two API servers, PostgreSQL, Redis, four hosts.

    .venv/bin/python -m benchmarks.several_hosts [--jobs 10000] [--drained N] [--hosts 4]
        [--slots 2] [--crashes 0.01]

Starts what compose.yaml holds, by tests/support/several, with the pool `process`. Jobs of mixed
priority are submitted in bulk before the first one starts; a share of them crashes at the first
attempt. With `--drained` the rest is left in the queues: a thousand show what 100,000 waiting
jobs cost. Needs root, and Debian's packages postgresql, redis-server, haproxy and iproute2.

Prints one line for each figure. Start latency is the time from the end of a job to the start of the
next one in its slot. Exit code 1 where a figure that must be 0 is not.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import psutil

from benchmarks.suite.server import Server, seconds
from tasks.contracts import WORKER_LABEL, Queue, job_id
from tests.chaos.harness.drill import LIVE, Drill, Run, attempt_of
from tests.chaos.harness.leftovers import stages
from tests.chaos.harness.notified import notified, subscribe, wait_until_recorded
from tests.chaos.harness.platforms import deploy_trial
from tests.chaos.harness.results import places, publishers, staged
from tests.support.platform import pause, wait_until
from tests.support.several.served import inversions
from tests.support.several.topology import Topology, topology
from tests.support.web.receiver import Receiver, receiver

_BATCH = 500  # jobs in one request
_CLIENTS = 4  # requests at a time
_SETTINGS = {"PREFECTURE_REQUEUE_BACKOFF": "1", "PREFECTURE_ALLOW_PRIVATE_WEBHOOKS": "true"}
_LONGEST = 12 * 3600.0  # seconds
_STARTED = ["PENDING", "RUNNING", "CANCELLING", "COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
_MIB = 2**20


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--drained", type=int, help="jobs that run; default: all")
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2, help="jobs at once on each host")
    parser.add_argument("--crashes", type=float, default=0.01, help="share of the jobs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, receiver() as listener:
        home = Path(folder)
        home.chmod(0o755)  # PostgreSQL runs as another user
        with topology(home / "several", _SETTINGS, given.hosts, given.slots) as several:
            deploy_trial(several.platform)
            wrong = _measure(several, listener, given)
    sys.exit(1 if wrong else 0)


def _measure(several: Topology, listener: Receiver, given: argparse.Namespace) -> int:
    """Print the figures. Returns the sum of those that must be 0."""
    platform, drained = several.platform, min(given.drained or given.jobs, given.jobs)
    drill = Drill(platform, f"{given.jobs} jobs")
    subscribe(several, drill, listener)
    memory = {"idle": _memory(several)}
    with pause(platform):
        began = time.monotonic()
        wanted = _submit(drill, given.jobs, given.crashes)
        _say("accepted in bulk", f"{given.jobs / (time.monotonic() - began):.0f} jobs/s")
        memory["all jobs wait"] = _memory(several)
    began = time.monotonic()
    server = Server(platform.api)
    _wait_for(server, drill, max(1, drained // 10))
    memory["first tenth"] = _memory(several)
    _wait_for(server, drill, drained)
    took = time.monotonic() - began
    memory["the last one"] = _memory(several)
    with pause(platform):
        wait_until(lambda: not _live(server, drill), _LONGEST, "what runs has ended", 1)
        return _report(several, drill, listener, wanted, given, memory, took, drained)


def _submit(drill: Drill, jobs: int, crashes: float) -> list[UUID]:
    """Submit jobs to all queues in turn. Returns their ids in the order of the queues."""
    server, platform = Server(drill.platform.api), drill.platform
    paths = {queue: f"/deployments/{platform.deployment(f'trial/{queue}')}" for queue in Queue}
    every = round(1 / crashes) if crashes else jobs + 1
    numbers: Mapping[Queue, list[int]] = defaultdict(list)
    for number in range(jobs):
        numbers[list(Queue)[number % len(Queue)]].append(number)

    def submit(one: tuple[Queue, Sequence[int]]) -> list[str]:
        queue, batch = one
        new = [
            {
                "parameters": {
                    "payload": {"fault": "kill"} if number % every == every - 1 else {},
                    "results_directory": f"{drill.name}/{number}",
                },
                "idempotency_key": f"{drill.name}/{number}",
            }
            for number in batch
        ]
        body = {"jobs": new, "tags": [drill.name]}
        return server.ask("POST", f"{paths[queue]}/create_jobs", body)

    made: Mapping[Queue, list[UUID]] = defaultdict(list)
    batches = [
        (queue, numbers[queue][at : at + _BATCH])
        for at in range(0, jobs, _BATCH)
        for queue in Queue
        if numbers[queue][at : at + _BATCH]
    ]
    with ThreadPoolExecutor(_CLIENTS) as pool:
        for (queue, batch), ids in zip(batches, pool.map(submit, batches), strict=True):
            made[queue] += map(UUID, ids)
            drill.jobs |= {
                UUID(id): f"{drill.name}/{number}" for id, number in zip(ids, batch, strict=True)
            }
    return [job for queue in Queue for job in _by_due(server, made[queue])]


def _by_due(server: Server, jobs: Sequence[UUID]) -> Iterator[UUID]:
    """The jobs in the order in which they are due: requests sent at once are accepted in any."""
    due: dict[UUID, str] = {}
    for at in range(0, len(jobs), 200):
        ids = [str(job) for job in jobs[at : at + 200]]
        body = {"flow_runs": {"id": {"any_": ids}}, "limit": 200}
        due |= {
            UUID(run["id"]): run["next_scheduled_start_time"] or run["expected_start_time"]
            for run in server.ask("POST", "/flow_runs/filter", body)
        }
    yield from sorted(due, key=lambda job: datetime.fromisoformat(due[job]))


def _wait_for(server: Server, drill: Drill, count: int) -> None:
    """Wait until as many jobs have completed; a count is cheap for the server."""
    body = _of(drill, ["COMPLETED"])
    done = lambda: server.ask("POST", "/flow_runs/count", body) >= count  # noqa: E731
    wait_until(done, _LONGEST, f"{count} jobs have completed", 1)


def _live(server: Server, drill: Drill) -> int:
    return server.ask("POST", "/flow_runs/count", _of(drill, LIVE))


def _of(drill: Drill, states: Sequence[str]) -> dict[str, Any]:
    return {"flow_runs": {"tags": {"all_": [drill.name]}, "state": {"type": {"any_": states}}}}


def _report(
    several: Topology,
    drill: Drill,
    listener: Receiver,
    wanted: Sequence[UUID],
    given: argparse.Namespace,
    memory: Mapping[str, float],
    took: float,
    drained: int,
) -> int:
    runs = {run["id"]: run for run in drill.runs(type={"any_": _STARTED})}.values()
    attempts: Mapping[UUID, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=attempt_of):
        attempts[job_id(run["labels"], UUID(run["id"]))].append(run)
    ended = {job for job, all in attempts.items() if all[-1]["state_type"] == "COMPLETED"}
    # Where the queues are not drained, an attempt that crashed last may still wait for the next.
    waiting = {
        job_id(run["labels"], UUID(run["id"])) for run in drill.runs(type={"any_": ["SCHEDULED"]})
    } if drained < given.jobs else set[UUID]()  # fmt: skip
    root = several.platform.results
    there = places(root, drill.name)
    firsts = [all[0] for all in attempts.values() if attempt_of(all[0]) == 1]
    taken = _claimed(Server(several.platform.api), firsts)
    wait_until(lambda: notified(listener).keys() >= ended, _LONGEST, "all ends are notified", 1)
    wait_until_recorded(several)
    wait_until(lambda: not stages(several.platform, 0), 120, "no stage is left")
    slots = given.hosts * given.slots
    latency = _latencies(runs, given.slots)
    tenth = max(1, len(latency) // 10)
    zeros = {
        "inversions": inversions(wanted, taken, slots),
        "lost": len(set(attempts) - ended - waiting) + sum(str(job) not in there for job in ended),
        "published twice": sum(len(there.get(str(job), [])) > 1 for job in attempts)
        + sum(len(publishers(root, job)) > 1 for job in attempts),
        "notified twice": sum(len(ids) > 1 for ids in notified(listener).values()),
        "orphans": len(staged(root)) + len(_processes(runs)),
        "crashed without a fault": sum(run["state_type"] == "CRASHED" for run in runs)
        - sum(len(all) > 1 or all[-1]["state_type"] == "CRASHED" for all in attempts.values()),
    }
    _say("completed", f"{len(ended):,} of {given.jobs:,}, {60 * drained / took:.0f} a minute")
    _say("start latency, first tenth", f"{median(latency[:tenth]):.2f} s")
    _say("start latency, last tenth", f"{median(latency[-tenth:]):.2f} s")
    for when, size in memory.items():
        _say(f"memory of an API server, {when}", f"{size:.0f} MiB")
    for what, count in zeros.items():
        _say(what, str(count))
    return sum(zeros.values())


def _claimed(server: Server, runs: Sequence[Run]) -> list[UUID]:
    """The jobs in the order in which workers took them."""

    def taken(run: Run) -> float:
        states = server.ask("GET", f"/flow_run_states/?flow_run_id={run['id']}")
        at = [seconds(one["timestamp"]) for one in states if one["type"] == "PENDING"]
        return min(at, default=float("inf"))

    with ThreadPoolExecutor(_CLIENTS) as pool:
        when = dict(zip((UUID(run["id"]) for run in runs), pool.map(taken, runs), strict=True))
    return sorted(when, key=when.__getitem__)


def _latencies(runs: Iterable[Run], slots: int) -> list[float]:
    """Seconds from the end of a job to the start of the next one in its slot, in that order."""
    hosts: Mapping[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run["start_time"] and run["end_time"]:
            hosts[str(run["labels"].get(WORKER_LABEL))].append(run)
    found: list[tuple[float, float]] = []
    for own in hosts.values():
        starts = sorted(seconds(run["start_time"]) for run in own)[slots:]
        ends = sorted(seconds(run["end_time"]) for run in own)
        found += [(start, max(0.0, start - end)) for start, end in zip(starts, ends, strict=False)]
    return [latency for _, latency in sorted(found)]


def _memory(several: Topology) -> float:
    """Memory of the larger one of the two API servers, in MiB."""
    sizes: list[int] = []
    for name in ("server-1", "server-2"):
        own = psutil.Process(several[name].process.pid)
        sizes += [one.memory_info().rss for one in (own, *own.children(recursive=True))]
    return max(sizes) / _MIB


def _processes(runs: Iterable[Run]) -> list[int]:
    """The processes that are left of these runs, all of which have ended."""
    ids, found = {run["id"] for run in runs}, list[int]()
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") in ids:
                found.append(process.pid)
        except psutil.Error:
            continue  # it has ended meanwhile
    return found


def _say(what: str, value: str) -> None:
    print(f"{what:<44}{value}", flush=True)


if __name__ == "__main__":
    main()
