"""States that Prefect's server writes in another order than they were asked for.

It dates a state by the request for it, and has them wait for the database: of two at about the same
time, the earlier one may be written last.
"""

import sqlite3
from contextlib import closing
from uuid import UUID

import pytest

from tasks.contracts import REQUEUED_AS_LABEL, WORKER_LABEL
from tests.support.platform import Platform, pause, wait_until
from tests.support.processes import frozen, supervisor, worker
from tests.support.session.tiers import thorough


def submit_job(platform: Platform) -> UUID:
    """A job of the worker there, which is paused and does not know it."""
    job = platform.submit_job("find-primes/normal", {"upper_bound": 10}, "late states")
    command = worker(platform).cmdline()
    labels = {WORKER_LABEL: command[command.index("--name") + 1]}
    platform.rest("PATCH", f"/flow_runs/{job}/labels", labels).raise_for_status()
    return job


def set_state(platform: Platform, job: UUID, type: str) -> None:
    body = {"state": {"type": type}, "force": True}
    platform.rest("POST", f"/flow_runs/{job}/set_state", body).raise_for_status()


def write_last(platform: Platform, job: UUID, type: str) -> None:
    """Leave what the server leaves where the earlier request, for this type, is granted last."""
    states = platform.rest("GET", f"/flow_run_states/?flow_run_id={job}").json()
    (state,) = [one for one in states if one["type"] == type]
    ended = None if type == "RUNNING" else state["timestamp"]
    with closing(sqlite3.connect(platform.home / "prefect" / "prefect.db", 60)) as database:
        database.execute(
            "UPDATE flow_run SET state_id = ?, state_type = ?, state_name = ?, end_time = ? "
            "WHERE id = ?",
            (state["id"], type, state["name"], ended, str(job)),
        )
        database.commit()
    assert platform.run(job)["state_type"] == type


@pytest.mark.parametrize("ended", ["CANCELLED", thorough("FAILED"), thorough("COMPLETED")])
def test_running_after_the_end(process_platform: Platform, ended: str) -> None:
    """The attempt asked for Running, and was killed before the answer."""
    with pause(process_platform), frozen(supervisor(process_platform)):
        job = submit_job(process_platform)
        set_state(process_platform, job, "RUNNING")
        set_state(process_platform, job, ended)
        write_last(process_platform, job, "RUNNING")
    wait_until(lambda: process_platform.run(job)["state_type"] == ended, what=f"it is {ended}")


def test_a_crash_after_running(process_platform: Platform) -> None:
    """The worker reported the crash of an attempt that had just asked for Running."""
    with pause(process_platform), frozen(supervisor(process_platform)):
        job = submit_job(process_platform)
        set_state(process_platform, job, "CRASHED")
        set_state(process_platform, job, "RUNNING")
        write_last(process_platform, job, "CRASHED")
    wait_until(
        lambda: REQUEUED_AS_LABEL in process_platform.run(job)["labels"],
        what="it has a second attempt",
    )
