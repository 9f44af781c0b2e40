"""A crashed job overtakes everything that waits in normal and low."""

from datetime import datetime
from typing import Any

import pytest

from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill, rest
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until


@pytest.mark.thorough
@on("docker", long("process"))
def test_a_crashed_job_overtakes_normal_and_low(trials: Platform, check: Check, few: int) -> None:
    crashed, others = Drill(trials, "crash of a low job"), Drill(trials, "jobs it overtakes")
    (job,) = crashed.submit(1, "low", gate="middle")
    crashed.wait_at("middle", {job})
    # With one slot of the two held, what waits is taken one by one.
    (holder,) = others.submit(1, gate="middle")
    others.wait_at("middle", {holder})
    for queue in ("normal", "low"):
        others.submit(few // 2, queue)
    crashed.kill_at("middle", job)
    wait_until(lambda: crashed.attempts()[job][1:], what="its next attempt is queued")
    wait_until(lambda: crashed.attempts()[job][-1]["state_type"] == "COMPLETED", what="it is done")
    others.kill_at("middle", holder)
    check(others)
    check(crashed)
    again = crashed.attempts()[job][-1]
    queued, its = datetime.fromisoformat(again["created"]), taken(trials, again)
    overtaking = [
        run["name"]
        for run in others.runs()
        if run["id"] != str(holder)
        # A slot that was free before the successor was there is no one's fault.
        and queued < taken(trials, run) < its
        and run["work_queue_name"] != "high"
    ]
    # One: the worker may have read the queue just before the successor came into it.
    assert len(overtaking) <= 1, overtaking


def taken(platform: Platform, run: dict[str, Any]) -> datetime:
    """When the worker took a run off its queue."""
    states = rest(platform, "GET", f"/flow_run_states/?flow_run_id={run['id']}")
    return min(datetime.fromisoformat(s["timestamp"]) for s in states if s["type"] == "PENDING")
