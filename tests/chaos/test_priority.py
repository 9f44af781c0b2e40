"""A crashed job overtakes everything that waits in normal and low."""

from datetime import datetime

from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until


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
    queued, started = (datetime.fromisoformat(again[at]) for at in ("created", "start_time"))
    overtaking = [
        run["name"]
        for run in others.runs()
        if run["id"] != str(holder)
        # A slot that was free before the successor was there is no one's fault. Half a second: what
        # the worker had taken from the queue when the successor came into it.
        and (datetime.fromisoformat(run["start_time"]) - queued).total_seconds() > 0.5
        and datetime.fromisoformat(run["start_time"]) < started
        and run["work_queue_name"] != "high"
    ]
    assert len(overtaking) <= 1, overtaking
