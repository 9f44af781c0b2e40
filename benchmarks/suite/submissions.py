"""d: submissions a second, one by one and in bulk, on SQLite and PostgreSQL, and their order."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from benchmarks.suite.database import database
from benchmarks.suite.report import OURS, Row
from benchmarks.suite.server import Server
from benchmarks.suite.usage import server_memory
from deployments import submit_many
from tasks.settings import get_settings
from tests.support.platform import Platform, platform_up

_TASK, _DIRECTORY = "find-primes", "bench"
_ONE_BY_ONE = 50  # jobs: enough to measure the rate
_IN_BULK = 100  # jobs in one request to Prefect's own endpoint
_STARTED = 40  # jobs whose order is checked
_OVERTAKEN = 0.05  # maximum share of these that start out of order
_TOTAL = 3_000  # jobs of each size: 1,000 are submitted three times, 10,000 once


@dataclass(frozen=True)
class _Submitted:
    """The figures of one round."""

    alone: float
    """Jobs a second, one after the other, by Prefect's own API."""
    theirs: float
    """Jobs a second, by Prefect's own bulk endpoint."""
    bulk: float
    """Jobs a second, by submit_many."""
    first: float
    """Seconds to the first Running, with all jobs in the queue."""
    memory: float
    """Peak memory of the server, in MiB."""


def submissions(home: Path, sizes: tuple[int, ...], rounds: int) -> list[Row]:
    """Measure with a new server for each round: stored jobs would slow the next round."""
    rows: list[Row] = []
    for kind in ("sqlite", "postgresql"):
        for size in sizes:
            turns = range(max(1, min(rounds, _TOTAL // size)))
            found = [_round(home / f"{kind}-{size}-{turn}", kind, size) for turn in turns]
            key = f"d {kind[:3]}"
            many = f"{size:,} jobs, {kind}"
            rows += [
                Row(key, f"submitted a second: {many}", "/s",
                    {OURS: [one.bulk for one in found],
                     "Prefect in bulk": [one.theirs for one in found],
                     "one by one": [one.alone for one in found]}, better="more"),
                Row(key, f"first Running after that: {many}", "s",
                    {OURS: [one.first for one in found]}),
                Row(key, f"memory of the server: {many}", "MiB",
                    {OURS: [one.memory for one in found]}),
            ]  # fmt: skip
    return rows


def _round(home: Path, kind: str, size: int) -> _Submitted:
    home.mkdir(parents=True)
    with (
        database(home, kind) as settings,
        platform_up(home / "up", "process", settings=settings) as up,
    ):
        server = Server(up.api)
        server.ask("PATCH", "/work_pools/process", {"is_paused": True})
        deployment = up.deployment(f"{_TASK}/low")
        parameters = {"payload": {"upper_bound": 10}, "results_directory": _DIRECTORY}
        began = time.perf_counter()
        for _ in range(_ONE_BY_ONE):
            server.make(deployment, parameters)
        alone = _ONE_BY_ONE / (time.perf_counter() - began)
        theirs = _by_prefect(server, deployment, parameters)
        with _configured(up):
            began = time.perf_counter()
            bounds = range(2, size + 2)
            jobs = submit_many(_TASK, [{"upper_bound": bound} for bound in bounds], _DIRECTORY)
            bulk = size / (time.perf_counter() - began)
        assert len({job.id for job in jobs}) == size, "jobs were lost"
        memory = server_memory(up, "VmHWM")
        began = time.time()
        server.ask("PATCH", "/work_pools/process", {"is_paused": False})
        # `normal` goes before `low`, where the others wait.
        times = server.ended([str(job.id) for job in jobs[:_STARTED]])
        begun = [one.running for one in times]
        # Jobs are claimed in order. A job that starts cold may be overtaken on the way to Running
        # by the next one, where that uses a standby.
        late = sum(after < before - 2 for before, after in pairwise(begun))
        assert late <= len(begun) * _OVERTAKEN, f"{late} jobs started before earlier ones"
        server.ask("PATCH", "/work_pools/process", {"is_paused": True})
        return _Submitted(alone, theirs, bulk, min(begun) - began, memory)


def _by_prefect(server: Server, deployment: str, parameters: Mapping[str, object]) -> float:
    """Jobs a second by Prefect's bulk endpoint, each with its own key, like ours."""
    bodies = [
        {
            "parameters": parameters,
            "idempotency_key": f"theirs-{number}",
            "enforce_parameter_schema": False,
        }
        for number in range(_IN_BULK)
    ]
    began = time.perf_counter()
    answer = server.ask("POST", f"/deployments/{deployment}/create_flow_run/bulk", bodies)
    took = time.perf_counter() - began
    assert {each["status"] for each in answer["results"]} == {"CREATED"}, answer
    return _IN_BULK / took


@contextmanager
def _configured(up: Platform) -> Generator[None]:
    """Configure this process like a user's program of that server."""
    variables = {"PREFECT_API_URL": up.api, "PREFECTURE_HOME": str(up.home)}
    with patch.dict("os.environ", variables):
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()
