"""A drill: jobs that really run, a fault injected into them, and what became of each."""

import contextlib
import os
import signal
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx

from tasks.contracts import ATTEMPT_LABEL, job_id
from tasks.prefect_api.pages import PAGE
from tasks.storage.results.local_files import RECORDS
from tests.support.containers import kill_container
from tests.support.platform import Platform, wait_until

Run = dict[str, Any]
LIVE = ["RUNNING", "PENDING", "CANCELLING"]
_ENDED = {"COMPLETED", "FAILED", "CANCELLED"}


def attempt_of(run: Run) -> int:
    """Which attempt at its job a flow run is."""
    return int(run["labels"].get(ATTEMPT_LABEL, 1))


def rest(platform: Platform, method: str, path: str, body: Any = None) -> Any:
    """A request that outlives a restart of the server. What it changes must bear being repeated."""

    def attempt() -> httpx.Response | None:
        try:
            response = platform.rest(method, path, body)
        except (httpx.TransportError, AssertionError):
            return None
        return response if response.status_code < 500 else None

    response = wait_until(attempt, what=f"{method} {path} is answered")
    assert response.is_success, f"{method} {path}: {response.text}"
    return response.json() if response.content else None


class Drill:
    """Some jobs, each with an id and a results directory of its own: of `trial`, or of any task."""

    def __init__(self, platform: Platform, fault: str) -> None:
        self.platform = platform
        self.fault = fault
        self.name = f"{fault.replace(' ', '-')}-{uuid4().hex[:8]}"
        self.jobs: dict[UUID, str] = {}
        self.deaths: dict[str, datetime] = {}
        self._left_out = set[UUID]()

    def submit(
        self,
        count: int,
        queue: str = "normal",
        variables: Mapping[str, Any] | None = None,
        task: str = "trial",
        **payload: Any,
    ) -> list[UUID]:
        """Submit jobs over REST, whether the server is there at the moment or not."""
        path = f"/deployments/name/{task}/{queue}"
        deployment = rest(self.platform, "GET", path)["id"]
        return [self._submit(deployment, variables, payload) for _ in range(count)]

    def _submit(
        self, deployment: str, variables: Mapping[str, Any] | None, payload: Mapping[str, Any]
    ) -> UUID:
        number = len(self.jobs)
        directory = f"{self.name}/{number}"
        body: dict[str, Any] = {
            "name": f"{self.name}-{number}",
            "parameters": {"payload": dict(payload), "results_directory": directory},
            "tags": [self.name],
            "idempotency_key": directory,
            "job_variables": dict(variables or {}),
        }
        run = rest(self.platform, "POST", f"/deployments/{deployment}/create_flow_run", body)
        job = UUID(run["id"])
        assert job not in self.jobs
        self.jobs[job] = directory
        return job

    def runs(self, **state: Any) -> Generator[Run]:
        """Every flow run of every job."""
        wanted = {"tags": {"all_": [self.name]}} | ({"state": state} if state else {})
        for page in range(1000):
            body = {
                "flow_runs": wanted,
                "limit": PAGE,
                "offset": page * PAGE,
                "sort": "ID_DESC",  # ids grow: what is new pushes nothing off the pages to come
            }
            found = rest(self.platform, "POST", "/flow_runs/filter", body)
            yield from found
            if len(found) < PAGE:
                return

    def attempts(self) -> dict[UUID, list[Run]]:
        """The attempts at each job, the first one first."""
        found: dict[UUID, dict[str, Run]] = {job: {} for job in self.jobs}
        for run in self.runs():
            job = job_id(run["labels"], UUID(run["id"]))
            if job not in self._left_out:
                found[job][run["id"]] = run
        return {job: sorted(runs.values(), key=attempt_of) for job, runs in found.items()}

    def unfinished(self) -> dict[UUID, list[Run]]:
        """The jobs that have not ended: a crash is no end."""
        attempts = self.attempts()
        return {
            job: runs
            for job, runs in attempts.items()
            if not runs or runs[-1]["state_type"] not in _ENDED
        }

    def running(self) -> list[Run]:
        """The attempts that are Running now."""
        return list(self.runs(type={"any_": ["RUNNING"]}))

    def marker(self, job: UUID, gate: str, attempt: int = 1) -> Path:
        """The file that tells that an attempt waits at a gate."""
        return self.platform.results / RECORDS / "gates" / f"{job}.{attempt}.{gate}"

    def wait_at(self, gate: str, jobs: set[UUID], attempt: int = 1) -> UUID:
        """The first of the jobs that waits at a gate."""

        def look() -> UUID | None:
            return next((job for job in jobs if self.marker(job, gate, attempt).exists()), None)

        return wait_until(look, what=f"a job of {self.fault} waits at {gate}")

    def submit_held(self, count: int, gate: str, **others: Any) -> list[UUID]:
        """Submit jobs, and return the first two of them once they wait at a gate.

        `others`: the payload of the rest, which passes it.
        """
        held = self.submit(2, gate=gate)
        self.submit(count - 2, **others)
        for job in held:
            self.wait_at(gate, {job})
        return held

    def kill_at(self, gate: str, job: UUID, attempt: int = 1) -> None:
        """SIGKILL to an attempt that waits at a gate: to its container, or to its process."""
        pid, run = self.marker(job, gate, attempt).read_text().split()
        self.deaths[run] = datetime.now(UTC)
        if self.platform.pool == "docker":
            kill_container(self.platform, run)
            return
        with contextlib.suppress(ProcessLookupError):  # it may have ended with its worker
            os.kill(int(pid), signal.SIGKILL)

    def release(self, job: UUID) -> None:
        """Let every attempt at a job that waits at a gate go on."""
        # Not under the results root, whose disk may be full.
        (self.platform.inputs / "trial" / f"{job}.release").touch()

    def kill_each_at(self, gate: str) -> None:
        """SIGKILL to the first attempt at every job, as each comes to the gate."""
        waiting = set(self.jobs)
        while waiting:
            job = self.wait_at(gate, waiting)
            waiting.remove(job)
            self.kill_at(gate, job)

    def leave_out(self, jobs: set[UUID]) -> None:
        """Judge these jobs no more: the fault did not reach them."""
        self._left_out |= jobs
        self.jobs = {job: at for job, at in self.jobs.items() if job not in jobs}

    def all_die(self) -> None:
        """Note that what runs now, or was taken and not started yet, dies now."""
        now = datetime.now(UTC)
        held = self.runs(type={"any_": ["PENDING", "RUNNING"]})
        self.deaths |= {run["id"]: now for run in held}


def is_paused(platform: Platform) -> bool:
    """Whether the pool's intake is closed."""
    pool: dict[str, Any] = rest(platform, "GET", f"/work_pools/{platform.pool}")
    return pool["is_paused"]
