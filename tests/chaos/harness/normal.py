"""How long it takes until all is as before."""

from datetime import datetime
from time import monotonic

from tests.chaos.harness.drill import Drill, rest
from tests.support.platform import wait_until


def seconds_to_normal(drill: Drill, since: datetime) -> float:
    """Submit a job. Returns the seconds from a moment until the job is Running."""
    (job,) = drill.submit(1, "high")

    def started() -> str | None:
        return rest(drill.platform, "GET", f"/flow_runs/{job}")["start_time"]

    at: str = wait_until(started, what="a job submitted after the fault runs")
    return (datetime.fromisoformat(at) - since).total_seconds()


def let_pass(seconds: float, since: float | None = None) -> None:
    """Wait for the time that a fault takes. `since`: when it began, by `monotonic`; now."""
    until = (monotonic() if since is None else since) + seconds
    wait_until(lambda: monotonic() > until, what="the time is over")
