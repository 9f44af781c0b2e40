"""A Prefect server's API, as any program uses it: runs made, watched, timed."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from tests.support.platform import FINAL

_PATIENCE = 600.0  # seconds


@dataclass(frozen=True)
class Times:
    """When a run came to each state, in seconds since the epoch, by the server's clock (ours)."""

    made: float
    running: float
    ended: float


class Server:
    """One server."""

    def __init__(self, api: str) -> None:
        self.api = api
        self._client = httpx.Client(base_url=api, timeout=_PATIENCE)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request; a 503, of SQLite's, again."""
        for _ in range(50):
            response = self._client.request(method, path, json=body)
            if response.status_code != 503:
                response.raise_for_status()
                return response.json() if response.content else None
            time.sleep(0.1)
        raise RuntimeError(f"{method} {path}: 503, fifty times")

    def wait(self, what: str, condition: Callable[[], Any], every: float = 0.05) -> Any:
        """The condition's first true value."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if value := condition():
                return value
            time.sleep(every)
        raise RuntimeError(f"not within {_PATIENCE:.0f} s: {what}")

    def make(self, deployment: str, parameters: Mapping[str, Any], **variables: Any) -> str:
        """A run of a deployment, now, with job variables of its own. Returns its id."""
        body = {"parameters": dict(parameters), "job_variables": variables}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def make_many(
        self, deployment: str, parameters: Sequence[Mapping[str, Any]], **variables: Any
    ) -> list[str]:
        """Runs of a deployment, four requests at a time."""

        def make(one: Mapping[str, Any]) -> str:
            return self.make(deployment, one, **variables)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(make, parameters))

    def times(self, run: str) -> Times:
        """The times of a run that has completed."""
        states = self.ask("GET", f"/flow_run_states/?flow_run_id={run}")
        at = {state["type"]: _seconds(state["timestamp"]) for state in states}
        assert "COMPLETED" in at, states[-1]
        first = min(_seconds(state["timestamp"]) for state in states)
        return Times(first, at["RUNNING"], at["COMPLETED"])

    def ended(self, runs: Sequence[str]) -> list[Times]:
        """The times of runs once all have completed."""
        over = {"id": {"any_": list(runs)}, "state": {"type": {"any_": list(FINAL)}}}

        def look() -> bool:  # counted, not read: it is the server that is measured
            return self.ask("POST", "/flow_runs/count", {"flow_runs": over}) == len(runs)

        self.wait(f"{len(runs)} runs end", look, every=0.25)
        return [self.times(run) for run in runs]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
