"""A part that all need is away for a while, each alone and all together.

No healthy job crashes, none is lost or doubled, and none is notified twice.
"""

import random
from datetime import UTC, datetime
from time import monotonic

import pytest

from tasks.contracts import WORKER_LABEL
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.normal import let_pass, seconds_to_normal
from tests.chaos.harness.notified import (
    each_is_notified_once,
    notified,
    subscribe,
    wait_until_recorded,
)
from tests.chaos.harness.verdict import Check
from tests.support.platform import wait_until
from tests.support.several.parts import Part
from tests.support.several.topology import HOSTS, Topology
from tests.support.web.receiver import Receiver

SHORT = 8.0  # seconds
LONG = 60.0
PARTS = ("redis", "server-1", "postgres", "services", "proxy")
HERE = HOSTS[0]
OF_HERE = ("worker-1", "supervisor-1")
FEW = 6  # jobs, where the time is short
WAITS = "another notifier has the database: waiting until it is gone"
QUEUES = ("high", "normal", "low")


def submit_mixed(drill: Drill, count: int) -> None:
    """Submit jobs to all queues, each with 2 s of work."""
    for place in range(count):
        drill.submit(1, QUEUES[place % len(QUEUES)], hold=2)


def leader_and_other(several: Topology) -> tuple[Part, Part]:
    """The notifier that works, and the one that waits."""
    both = [several["notifier-1"], several["notifier-2"]]

    def who() -> tuple[Part, Part] | None:
        waiting = [one for one in both if one.end_of_log().endswith(WAITS)]
        leading = [one for one in both if one not in waiting]
        return (leading[0], waiting[0]) if len(waiting) == 1 else None

    return wait_until(who, what="one notifier waits")


@pytest.mark.thorough
def test_each_is_away_in_turn(several: Topology, listener: Receiver, check: Check) -> None:
    drill = Drill(several.platform, f"each part away {SHORT:.0f} s, in turn")
    subscribe(several, drill, listener)
    held = drill.submit(2, gate="middle")
    for job in held:
        drill.wait_at("middle", {job})
    for name in PARTS:
        submit_mixed(drill, 2)
        several[name].kill()
        if name == "postgres":
            drill.release(held[0])
        let_pass(SHORT)
        several[name].start()
        several[name].wait()
    normal = seconds_to_normal(drill, datetime.now(UTC))
    drill.release(held[1])
    row = check(drill, timeout=240)
    row.normal = normal
    assert row.requeued == 0, "a healthy job crashed"
    each_is_notified_once(several, drill, listener, row)
    assert several.gone() == []


@pytest.mark.chaos
@pytest.mark.parametrize("seconds", [SHORT, LONG])
@pytest.mark.parametrize("name", PARTS)
def test_away(
    several: Topology,
    listener: Receiver,
    check: Check,
    count: int,
    name: str,
    seconds: float,
) -> None:
    drill = Drill(several.platform, f"{name} away {seconds:.0f} s")
    subscribe(several, drill, listener)
    held = drill.submit(2, gate="middle")
    submit_mixed(drill, count - len(held))
    for job in held:
        drill.wait_at("middle", {job})
    several[name].kill()
    drill.release(held[0])
    let_pass(seconds)
    several[name].start()
    back = datetime.now(UTC)
    normal = seconds_to_normal(drill, back)
    several[name].wait()
    drill.release(held[1])
    row = check(drill, timeout=240)
    row.normal = normal
    assert row.requeued == 0, "a healthy job crashed"
    each_is_notified_once(several, drill, listener, row)
    assert several.gone() == []


@pytest.mark.thorough
def test_another_notifier_takes_over(several: Topology, listener: Receiver, check: Check) -> None:
    leader, _ = leader_and_other(several)
    drill = Drill(several.platform, "SIGKILL to the notifier that works")
    subscribe(several, drill, listener)
    drill.submit(1)
    wait_until(lambda: len(listener.requests) == 1, what="the first notifies")
    # A notifier killed before it has recorded an answer notifies again.
    wait_until_recorded(several)
    leader.kill()
    began = monotonic()
    drill.submit(3)
    wait_until(lambda: notified(listener).keys() == drill.jobs.keys(), what="the second notifies")
    normal = monotonic() - began
    leader.start()
    wait_until(lambda: leader.end_of_log().endswith(WAITS), what="the first waits")
    row = check(drill)
    row.normal = normal
    each_is_notified_once(several, drill, listener, row)
    assert len(listener.requests) == len(drill.jobs)


def crashed_elsewhere(drill: Drill) -> list[str]:
    """The attempts that crashed on another host than the one that was killed."""
    before_last = (run for runs in drill.attempts().values() for run in runs[:-1])
    lost = (None, HERE)  # none: taken by a worker, and not given to a process
    return [run["id"] for run in before_last if run["labels"].get(WORKER_LABEL) not in lost]


def kill_host(several: Topology, drill: Drill) -> None:
    """End all that runs on a host, as a loss of power does."""
    now = datetime.now(UTC)
    dead = (run for run in drill.running() if run["labels"].get(WORKER_LABEL) == HERE)
    drill.deaths |= {run["id"]: now for run in dead}
    several.hosts[HERE].kill()
    wait_until(lambda: not any(several[name].runs for name in OF_HERE), what="nothing runs there")


@pytest.mark.chaos
def test_a_host_is_killed(several: Topology, listener: Receiver, check: Check, count: int) -> None:
    drill = Drill(several.platform, "host killed, and back")
    subscribe(several, drill, listener)
    submit_mixed(drill, count)
    held = drill.submit(4, "high", gate="middle")
    for job in held:
        drill.wait_at("middle", {job})
    kill_host(several, drill)
    assert len(drill.deaths) == 2, "each host runs two jobs"
    for job in held:
        drill.release(job)
    normal = seconds_to_normal(drill, datetime.now(UTC))
    for name in OF_HERE:
        several[name].start()
    row = check(drill, timeout=240)
    row.normal = normal
    assert row.requeued == 2
    assert crashed_elsewhere(drill) == []
    each_is_notified_once(several, drill, listener, row)
    assert several.gone() == []


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_all_together(several: Topology, listener: Receiver, check: Check, count: int) -> None:
    """All parts, the notifier that works and a host are killed at once, `--jobs` times."""
    drill = Drill(several.platform, f"all at once, {count} times")
    subscribe(several, drill, listener)
    slowest = 0.0
    for _ in range(count):
        submit_mixed(drill, FEW)
        wait_until(lambda: len(drill.running()) >= len(HOSTS), what="jobs run on the hosts")
        leader, _ = leader_and_other(several)
        parts = [several[name] for name in PARTS] + [leader]
        random.shuffle(parts)
        kill_host(several, drill)
        for part in parts:
            part.kill()
        let_pass(SHORT)
        parts += [several[name] for name in OF_HERE]
        for part in parts:
            part.start()
        slowest = max(slowest, seconds_to_normal(drill, datetime.now(UTC)))
        for part in parts:
            part.wait()
        wait_until(lambda: not drill.unfinished(), what="all jobs of this time have ended")
    row = check(drill, timeout=240)
    row.normal = slowest
    assert crashed_elsewhere(drill) == [], "a healthy job crashed"
    each_is_notified_once(several, drill, listener, row)
    assert several.gone() == []
