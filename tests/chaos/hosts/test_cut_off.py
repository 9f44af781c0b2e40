"""A host, or an API server, is cut off: all packets are dropped, or those in one direction.

No healthy job crashes, and none is lost or doubled.
"""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import psutil
import pytest

from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.normal import let_pass, seconds_to_normal
from tests.chaos.harness.notified import each_is_notified_once, subscribe
from tests.chaos.harness.results import publishers
from tests.chaos.harness.verdict import Check
from tests.support.platform import wait_until
from tests.support.session.environment import PASSWORD
from tests.support.several.topology import HOSTS, Topology
from tests.support.web.receiver import Receiver

MOMENT = 10.0  # seconds, below the 20 s after which a host is lost
LONG = 60.0
HERE, ELSEWHERE = HOSTS
BOTH = "both ways"
# What is dropped: packets to it, and those back from it.
CUTS = {BOTH: (True, True), "to it": (True, False), "from it": (False, True)}
ONE_WAY = ("to it", "from it")


def processes_of(run: UUID) -> list[psutil.Process]:
    """The processes of an attempt, on whichever host."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run):
                found.append(process)
    return found


def prefecture(several: Topology, *words: str) -> None:
    done = several.platform.command("prefecture", *words)
    assert done.returncode == 0, done.stderr


@contextmanager
def only_host(several: Topology, other: str) -> Generator[None]:
    """While the block runs, the other host takes no job."""
    prefecture(several, "drain", other)
    try:
        yield
    finally:
        prefecture(several, "drain", other, "--undo")


@pytest.mark.thorough
def test_a_job_of_a_host_has_no_password(several: Topology, check: Check) -> None:
    """Nor that of a database: with a token it reports its states to the API."""
    drill = Drill(several.platform, "no password for jobs")
    (job,) = drill.submit(1, gate="middle")
    drill.wait_at("middle", {job})
    (process,) = processes_of(job)
    has = process.environ()
    secrets = (PASSWORD.partition(":")[2], "postgresql://", "redis://")
    assert [name for name in has if any(secret in has[name] for secret in secrets)] == []
    drill.release(job)
    check(drill)


@pytest.mark.thorough
@pytest.mark.parametrize("cut", [BOTH, *map(long, ONE_WAY)])
def test_a_host_is_cut_off_for_a_moment(several: Topology, check: Check, cut: str) -> None:
    drill = Drill(several.platform, f"host cut off for {MOMENT:.0f} s, {cut}")
    held = drill.submit(4, gate="middle")  # as many as there are slots
    for job in held:
        drill.wait_at("middle", {job})
    to, back = CUTS[cut]
    with several.hosts[HERE].cable.cut(to=to, back=back):
        began = monotonic()
        for job in held:
            drill.release(job)
        let_pass(MOMENT, began)
    normal = seconds_to_normal(drill, datetime.now(UTC))
    row = check(drill, timeout=240)
    row.normal = normal
    assert row.requeued == 0, "a healthy job crashed"
    assert several.gone() == []


@pytest.mark.thorough
@pytest.mark.parametrize("seconds", [MOMENT, long(LONG)])
@pytest.mark.parametrize(
    ("name", "cut"),
    [
        ("postgres", BOTH),
        *(long("postgres", cut) for cut in ONE_WAY),
        *(long("redis", cut) for cut in (BOTH, *ONE_WAY)),
    ],
)
def test_an_api_server_is_cut_off(
    several: Topology,
    listener: Receiver,
    check: Check,
    name: str,
    cut: str,
    seconds: float,
) -> None:
    """From its database, or from Redis: the proxy and the clients go on with the other one."""
    drill = Drill(several.platform, f"server-1 cut off from {name} {seconds:.0f} s, {cut}")
    subscribe(several, drill, listener)
    held = drill.submit(4, gate="middle")
    for job in held:
        drill.wait_at("middle", {job})
    to, back = CUTS[cut]
    with several.server.cables[name].cut(to=to, back=back):
        began = monotonic()
        for job in held:
            drill.release(job)
        drill.submit(2)
        let_pass(seconds, began)
    normal = seconds_to_normal(drill, datetime.now(UTC))
    row = check(drill, timeout=240)
    row.normal = normal
    assert row.requeued == 0, "a healthy job crashed"
    each_is_notified_once(several, drill, listener, row)
    assert several.gone() == []


@pytest.mark.chaos
def test_a_host_is_cut_off_and_back(several: Topology, listener: Receiver, check: Check) -> None:
    drill = Drill(several.platform, "host cut off and back")
    subscribe(several, drill, listener)
    with only_host(several, ELSEWHERE):
        (working,) = drill.submit(1, gate="middle")
        (publishing,) = drill.submit(1, gate="publishing")
        drill.wait_at("middle", {working})
        drill.wait_at("publishing", {publishing})
    with several.hosts[HERE].cable.cut():
        wait_until(lambda: not drill.unfinished(), what="both have run on the other host")
        assert all(processes_of(job) for job in drill.jobs), "the old attempts go on"
        drill.release(publishing)
    for job in drill.jobs:
        wait_until(lambda job=job: not processes_of(job), what="the old attempt is ended")
    with only_host(several, ELSEWHERE):
        (new,) = drill.submit(1)
        run = several.platform.ended(new)
    assert (run["state_type"], run["labels"]["prefect.worker.name"]) == ("COMPLETED", HERE)
    row = check(drill)
    assert row.requeued == 2
    for job in (working, publishing):
        (first, second) = drill.attempts()[job]
        assert first["state"]["message"] == "lost: its host is gone"
        assert publishers(several.platform.results, job) == {second["id"]}
    assert several.gone() == []
    each_is_notified_once(several, drill, listener, row)
