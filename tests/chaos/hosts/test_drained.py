"""`prefecture drain`: a host takes nothing new, and gives up what runs; nothing is lost."""

import json
from uuid import UUID

import pytest

from tasks.contracts import ATTEMPT_LABEL, DRAINED_LABEL, MOVES_LABEL
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.verdict import Check
from tests.support.platform import Platform, wait_until
from tests.support.processes import worker

TAKES_NOTHING = "drained: taking no run"


def prefecture(platform: Platform, *words: str) -> str:
    done = platform.command("prefecture", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusals(platform: Platform) -> int:
    """How often a worker has found a run that it leaves, first after it was drained or started."""
    return (platform.home / "logs" / "worker.log").read_text().count(TAKES_NOTHING)


@pytest.mark.thorough
def test_drained_and_back(process_trials: Platform, check: Check) -> None:
    platform, drill = process_trials, Drill(process_trials, "host drained")
    (running,) = drill.submit(1, gate="middle")
    drill.wait_at("middle", {running})
    host = worker(platform).environ()["PREFECTURE_WORKER"]
    before = refusals(platform)
    said = prefecture(platform, "drain", host)
    assert said == f"{host} takes no new job; 1 job runs there, to the end\n"
    (waiting,) = drill.submit(1)
    wait_until(lambda: refusals(platform) > before, what="the worker leaves the run")
    assert platform.run(waiting)["state_type"] == "SCHEDULED"
    assert platform.run(running)["state_type"] == "RUNNING"
    all_are_drained = [
        "every host of the pool process is drained: let one take jobs again with `prefecture drain "
        "HOST --undo`"
    ]

    def reasons() -> list[str]:
        return json.loads(prefecture(platform, "explain", str(waiting), "--json"))["reasons"]

    # The worker of another host, which a test before has ended, counts for some more seconds.
    wait_until(lambda: reasons() == all_are_drained, what="all hosts are drained")

    prefecture(platform, "drain", host, "--deadline", "1s", "--wait")
    moved = platform.run(running)
    assert (moved["state_name"], moved["labels"][DRAINED_LABEL]) == ("Drained", host)
    assert "drained, until" in prefecture(platform, "status")
    worker(platform).kill()  # which `up` starts again
    wait_until(lambda: refusals(platform) > before + 1, what="the next worker leaves it, too")
    assert platform.run(waiting)["state_type"] == "SCHEDULED"

    assert prefecture(platform, "drain", host, "--undo") == f"{host} takes jobs again\n"
    drill.release(running)
    row = check(drill)
    assert row.requeued == 1
    (first, second) = drill.attempts()[running]
    assert UUID(first["id"]) == running
    assert (second["labels"][ATTEMPT_LABEL], second["labels"][MOVES_LABEL]) == (2, 1)
    assert f"attempt 2 of 6, after: {host} is drained" in second["tags"]
    refused = platform.command("prefecture", "drain", host, "--undo")
    assert f"{host} is not drained" in refused.stderr
    refused = platform.command("prefecture", "drain", "nowhere")
    assert f"no host or worker is named nowhere; there are: {host}" in refused.stderr
