"""A job is cancelled, at whatever stage it is: it ends Cancelled, at once, and never comes back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.pending import worker_frozen_before_start
from tests.chaos.harness.results import staged
from tests.chaos.harness.verdict import Check
from tests.support.containers import containers
from tests.support.platform import Platform, pause, wait_until
from tests.support.processes import frozen, supervisor
from tests.support.session.on_time import OnTime
from tests.support.session.tiers import thorough


def cancel(platform: Platform, job: UUID) -> None:
    """As a user would: by the job's id, whichever attempt it has come to."""
    done = platform.command("prefecture", "cancel", str(job))
    assert done.returncode == 0, done.stdout + done.stderr


def leaves_nothing(drill: Drill) -> None:
    """What a cancelled attempt had is gone as soon as it says that it is cancelled.

    What had crashed before is tidied up as after any crash: in a minute.
    """
    latest = [runs[-1] for runs in drill.attempts().values()]
    assert {run["state_type"] for run in latest} == {"CANCELLED"}
    ids = {run["id"] for run in latest if run["id"] not in drill.deaths}
    stages = staged(drill.platform.results)
    assert [path for path in stages if path.name.split(".")[1] in ids] == []
    if drill.platform.pool == "docker":
        assert [one for one in containers(drill.platform) if one.status == "running"] == []


def queued(drill: Drill) -> None:
    with pause(drill.platform):
        drill.submit(2)
        for job in drill.jobs:
            cancel(drill.platform, job)


def pending(drill: Drill) -> None:
    """Cancelled when the worker has taken it and not started it; it starts it afterwards."""
    drill.submit(8)  # with each there is a moment in which it can be caught
    with worker_frozen_before_start(drill) as caught:
        for run in caught:
            cancel(drill.platform, UUID(run["id"]))
        drill.leave_out({*drill.jobs} - {UUID(run["id"]) for run in caught})


def at_gate(gate: str) -> Callable[[Drill], None]:
    def stop(drill: Drill) -> None:
        for job in drill.submit(2, gate=gate):
            drill.wait_at(gate, {job})
            cancel(drill.platform, job)

    return stop


def crashed(drill: Drill) -> None:
    """Cancelled between its crash and its requeue, while nobody had looked."""
    (job,) = drill.submit(1, gate="middle", attempts=9)
    drill.wait_at("middle", {job})
    with frozen(supervisor(drill.platform)):
        drill.kill_at("middle", job)
        if drill.platform.pool == "docker":
            crash = wait_until(lambda: list(drill.runs(type={"any_": ["CRASHED"]})), what="Crashed")
            assert crash
        cancel(drill.platform, job)


def waiting_for_requeue(drill: Drill) -> None:
    """Cancelled when the next attempt stands in the queue, not due yet or not taken."""
    (job,) = drill.submit(1, gate="middle", attempts=9)
    drill.wait_at("middle", {job})
    with pause(drill.platform):
        drill.kill_at("middle", job)
        wait_until(lambda: len(drill.attempts()[job]) == 2, what="the next attempt is queued")
        cancel(drill.platform, job)


def next_attempt(drill: Drill) -> None:
    """By the job's id, which is not that of the run that is going."""
    (job,) = drill.submit(1, gate="middle", attempts=9)
    drill.wait_at("middle", {job})
    drill.kill_at("middle", job)
    drill.wait_at("middle", {job}, attempt=2)
    cancel(drill.platform, job)


STAGES: dict[str, Callable[[Drill], None]] = {
    "queued": queued,
    "pending": pending,
    "running": at_gate("middle"),
    "publishing": at_gate("publishing"),
    "crashed": crashed,
    "waiting for requeue": waiting_for_requeue,
    "next attempt": next_attempt,
}
# Pending takes a minute: as long as the worker may still start it, it is not gone.
_LONG = ["pending", "running", "waiting for requeue"]


@pytest.mark.parametrize(
    ("trials", "stage"),
    [
        ("docker", "next attempt"),
        *(thorough("docker", stage) for stage in STAGES if stage not in (*_LONG, "next attempt")),
        *(long("docker", stage) for stage in _LONG),
        ("process", "running"),
        *(long("process", stage) for stage in STAGES if stage != "running"),
    ],
    indirect=["trials"],
)
def test_at(trials: Platform, check: Check, stage: str) -> None:
    drill = Drill(trials, f"cancel {stage}")
    STAGES[stage](drill)
    leaves_nothing(drill)
    check(drill, "CANCELLED")
    leaves_nothing(drill)


@pytest.mark.thorough
@on("docker", long("process"))
def test_over_rest(trials: Platform, check: Check, on_time: OnTime) -> None:
    drill = Drill(trials, "cancel over REST")
    (job,) = drill.submit(1, gate="middle")
    drill.wait_at("middle", {job})
    state = {"type": "CANCELLING", "name": "Cancelling"}
    trials.rest("POST", f"/flow_runs/{job}/set_state", {"state": state})
    asked = datetime.now(UTC)
    check(drill, "CANCELLED")
    leaves_nothing(drill)
    on_time(datetime.now(UTC) - asked < timedelta(seconds=30), drill.name)
