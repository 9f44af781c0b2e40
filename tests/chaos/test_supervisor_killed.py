"""The supervisor is killed, or there are two of it, or it is late: one successor for each crash."""

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from uuid import UUID

import pytest

from tasks.contracts import ATTEMPT_LABEL, JOB_ID_LABEL, REQUEUE_OF_LABEL, requeue_key
from tests.chaos.harness.choice import long, on
from tests.chaos.harness.drill import Drill, rest
from tests.chaos.harness.table import Row
from tests.chaos.harness.verdict import Check
from tests.support.platform import PATIENCE, Platform, ends_with_us, pause, wait_until
from tests.support.processes import frozen, processes_of, supervisor
from tests.support.session.on_time import OnTime

TARGET = 60.0  # seconds in which 1,000 crashed runs are requeued
KILLED = "Flow run infrastructure exited with non-zero status code 137."
_BULK = 50  # the most runs whose state the API sets in one request


def crash_all(drill: Drill) -> None:
    """Have the API believe that every attempt has crashed."""
    ids = [str(job) for job in drill.jobs]
    for start in range(0, len(ids), _BULK):
        body = {
            "flow_runs": {"id": {"any_": ids[start : start + _BULK]}},
            "state": {"type": "CRASHED", "name": "Crashed", "message": KILLED},
            "force": True,
        }
        rest(drill.platform, "POST", "/flow_runs/bulk_set_state", body)


def requeued(drill: Drill) -> int:
    """How many successors there are."""
    body = {"flow_runs": {"tags": {"all_": [drill.name]}}}
    return rest(drill.platform, "POST", "/flow_runs/count", body) - len(drill.jobs)


@on("docker", long("process"))
def test_killed_while_it_requeues(trials: Platform, check: Check, few: int) -> None:
    drill = Drill(trials, "SIGKILL supervisor")
    with pause(trials):
        drill.submit(few)
        victim = supervisor(trials)
        with frozen(victim):
            crash_all(drill)
        # It begins where it stood, and is killed as soon as there is a trace of it.
        wait_until(lambda: requeued(drill), what="a first successor")
        victim.kill()
        wait_until(lambda: requeued(drill) >= few, what="every successor")
    assert check(drill).requeued == few


@pytest.mark.thorough
@on("process", long("docker"))
def test_killed_with_a_job(trials: Platform, check: Check) -> None:
    drill = Drill(trials, "SIGKILL supervisor, jobs")
    jobs = drill.submit(2, gate="publishing")
    for job in jobs:
        drill.wait_at("publishing", {job})
    supervisor(trials).kill()
    for job in jobs:
        drill.kill_at("publishing", job)
    assert check(drill).requeued == 2


def requeue(drill: Drill, job: UUID) -> UUID:
    """Submit the second attempt at a job as its supervisor would."""
    run = drill.platform.run(job)
    kept = {name: run[name] for name in ("name", "parameters", "tags", "job_variables")}
    labels = {JOB_ID_LABEL: str(job), ATTEMPT_LABEL: 2, REQUEUE_OF_LABEL: str(job)}
    of_its_own = {"work_queue_name": "high", "idempotency_key": requeue_key(job, 2)}
    path = f"/deployments/{run['deployment_id']}/create_flow_run"
    return UUID(rest(drill.platform, "POST", path, kept | of_its_own | {"labels": labels})["id"])


@pytest.mark.thorough
@on("process")
def test_an_attempt_taken_for_dead_stays_crashed(trials: Platform, check: Check) -> None:
    drill = Drill(trials, "attempt taken for dead")
    (job,) = drill.submit(1, gate="publishing")
    drill.wait_at("publishing", {job})
    with frozen(supervisor(trials)):  # which would kill it
        crash_all(drill)
        assert trials.ended(requeue(drill, job))["state_type"] == "COMPLETED"
        drill.release(job)
        wait_until(lambda: not processes_of(trials, job), what="it gives up")
    assert check(drill).requeued == 1


@contextmanager
def second_supervisor(platform: Platform, log: Path) -> Generator[None]:
    """Another one beside the first, started as that was."""
    first = supervisor(platform)
    with log.open("wb") as output:
        process = subprocess.Popen(
            ends_with_us(*first.cmdline()),
            cwd=first.cwd(),
            env=first.environ(),
            stdout=output,
            stderr=output,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait(240)


@pytest.mark.thorough
@on("docker", long("process"))
def test_two_at_once(trials: Platform, check: Check, few: int, tmp_path: Path) -> None:
    drill = Drill(trials, "two supervisors")
    with second_supervisor(trials, tmp_path / "second.log"):
        with pause(trials):
            drill.submit(few)
            crash_all(drill)
            wait_until(lambda: requeued(drill) >= few, what="every successor")
        held = drill.submit(2, gate="middle")
        for job in held:
            drill.wait_at("middle", {job})
            drill.kill_at("middle", job)
        assert check(drill).requeued == few + 2


@pytest.mark.thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("many", [50, long(1000)])
def test_many_at_once(
    process_trials: Platform, table: list[Row], many: int, on_time: OnTime
) -> None:
    drill = Drill(process_trials, f"{many} crashes at once")
    row = Row(drill.fault, process_trials.pool, many)
    table.append(row)
    with pause(process_trials):
        drill.submit(many)
        with frozen(supervisor(process_trials)):
            crash_all(drill)
            assert requeued(drill) == 0
        thawed = monotonic()
        try:
            # To count a thousand runs ten times a second is work for the server, too.
            wait_until(
                lambda: requeued(drill) >= many, PATIENCE + many, f"{many} successors", every=1
            )
        finally:
            row.requeued = requeued(drill)
        row.note = f"all requeued after {monotonic() - thawed:.1f} s"
        attempts = drill.attempts()
        row.lost = sum(len(runs) < 2 for runs in attempts.values())
        row.twice = sum(len(runs) > 2 for runs in attempts.values())
        # To run them all would take minutes, and tell nothing more.
        for runs in attempts.values():
            state = {"type": "CANCELLED", "name": "Cancelled"}
            path = f"/flow_runs/{runs[-1]['id']}/set_state"
            rest(process_trials, "POST", path, {"state": state, "force": True})
    assert (row.lost, row.twice) == (0, 0)
    on_time(float(row.note.split()[3]) < TARGET, row)
