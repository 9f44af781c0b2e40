"""A client of a Prefect server: creates runs, waits for them, reads their times."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from tests.support.platform import FINAL
from tests.support.session.environment import PASSWORD

_TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Times:
    """When a run entered each state, in seconds since the epoch, by the clock of this machine."""

    created: float
    running: float
    ended: float


class Server:
    """A client of one server."""

    def __init__(self, api: str) -> None:
        self.api = api
        user, _, password = PASSWORD.partition(":")
        self._client = httpx.Client(base_url=api, timeout=_TIMEOUT, auth=(user, password))

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request; retry a 503, which a busy SQLite causes, up to 50 times."""
        for _ in range(50):
            response = self._client.request(method, path, json=body)
            if response.status_code != 503:
                response.raise_for_status()
                return response.json() if response.content else None
            time.sleep(0.1)
        raise RuntimeError(f"{method} {path}: 503, fifty times")

    def wait(self, what: str, condition: Callable[[], Any], every: float = 0.05) -> Any:
        """Poll a condition. Returns its first true value, and raises RuntimeError after 600 s."""
        until = time.monotonic() + _TIMEOUT
        while time.monotonic() < until:
            if value := condition():
                return value
            time.sleep(every)
        raise RuntimeError(f"not within {_TIMEOUT:.0f} s: {what}")

    def make(self, deployment: str, parameters: Mapping[str, Any], **variables: Any) -> str:
        """Create a run of a deployment, with its own job variables. Returns its id."""
        body = {"parameters": dict(parameters), "job_variables": variables}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def make_many(
        self, deployment: str, parameters: Sequence[Mapping[str, Any]], **variables: Any
    ) -> list[str]:
        """Create runs of a deployment, four requests at a time. Returns their ids."""

        def make(one: Mapping[str, Any]) -> str:
            return self.make(deployment, one, **variables)

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(make, parameters))

    def times(self, run: str) -> Times:
        """Read the times of a completed run."""
        states = self.ask("GET", f"/flow_run_states/?flow_run_id={run}")
        at = {state["type"]: seconds(state["timestamp"]) for state in states}
        assert "COMPLETED" in at, states[-1]
        first = min(seconds(state["timestamp"]) for state in states)
        return Times(first, at["RUNNING"], at["COMPLETED"])

    def ended(self, runs: Sequence[str]) -> list[Times]:
        """Wait until all runs have completed. Returns their times."""
        over = {"id": {"any_": list(runs)}, "state": {"type": {"any_": list(FINAL)}}}

        def look() -> bool:  # a count is cheap for the server, which is measured
            return self.ask("POST", "/flow_runs/count", {"flow_runs": over}) == len(runs)

        self.wait(f"{len(runs)} runs end", look, every=0.25)
        return [self.times(run) for run in runs]


def seconds(text: str) -> float:
    """Seconds since the epoch, of a time in ISO 8601."""
    return datetime.fromisoformat(text).timestamp()
