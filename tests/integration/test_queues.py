"""Strict priority between the queues, first in first out inside each."""

from collections.abc import Generator
from pathlib import Path

import pytest

from deployments.program import read_program
from tests.support.platform import Platform, pause, platform_up

QUEUES = ["high", "normal", "low"]


@pytest.fixture(scope="module", params=["docker", "process"])
def one_slot(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Platform]:
    with platform_up(tmp_path_factory.mktemp("slot"), request.param, slots=1) as platform:
        yield platform


def test_high_before_normal_before_low_and_first_in_first_out(one_slot: Platform) -> None:
    with pause(one_slot):
        # The least urgent first, interleaved: neither the order of submission nor that of names.
        submitted = [
            (queue, one_slot.submit_job(f"find-primes/{queue}", {"upper_bound": 10}, "order"))
            for _ in range(3)
            for queue in reversed(QUEUES)
        ]
    runs = {job: one_slot.ended(job) for _, job in submitted}
    assert {run["state_type"] for run in runs.values()} == {"COMPLETED"}
    started = sorted(runs, key=lambda job: runs[job]["start_time"])
    wanted = [job for queue in QUEUES for at, job in submitted if at == queue]
    assert started == wanted
    ends = [runs[job]["end_time"] for job in started]
    assert all(
        end <= runs[job]["start_time"] for end, job in zip(ends, started[1:], strict=False)
    ), "one slot, and two jobs ran at once"


@pytest.mark.thorough
def test_status_counts_and_names_a_queue_that_a_typo_made(one_slot: Platform) -> None:
    with pause(one_slot):
        waiting = one_slot.submit_job("find-primes/low", {"upper_bound": 10}, "typo")
        stray = one_slot.create(
            "find-primes/high",
            work_queue_name="hihg",
            parameters={"payload": {"upper_bound": 10}, "results_directory": "typo"},
        ).json()["id"]
        shown = one_slot.command("prefecture", "status").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert [one_slot.pool, "low", "1", "0", "0", "0"] in lines
    assert [one_slot.pool, "high", "0", "0", "0", "0"] in lines
    assert f"Queue 'hihg' of pool {one_slot.pool} is not one of Prefecture's" in shown
    assert stray in shown
    assert str(waiting) in shown
    # It is a typo, not a reason to lose the job.
    assert one_slot.ended(stray)["state_type"] == "COMPLETED"
    one_slot.ended(waiting)


def test_our_own_ways_in_refuse_an_unknown_queue(one_slot: Platform) -> None:
    done = one_slot.command(
        "prefecture", "submit", "find-primes", '{"upper_bound": 10}', "x", "--queue", "hugh"
    )
    assert done.returncode == 1
    assert done.stderr == "prefecture: there is no queue 'hugh': choose high, normal, low\n"
    queues = one_slot.rest("POST", f"/work_pools/{one_slot.pool}/queues/filter", {}).json()
    assert "hugh" not in {queue["name"] for queue in queues}


@pytest.mark.thorough
def test_apply_twice_changes_nothing(one_slot: Platform, tmp_path: Path) -> None:
    def everything() -> object:
        queues = one_slot.rest("POST", f"/work_pools/{one_slot.pool}/queues/filter", {}).json()
        deployments = one_slot.rest("POST", "/deployments/filter", {}).json()
        blocks = one_slot.rest("POST", "/block_documents/filter", {}).json()
        return (
            sorted((queue["name"], queue["priority"]) for queue in queues),
            sorted((d["id"], d["name"], d["work_queue_name"], d["updated"]) for d in deployments),
            sorted(block["id"] for block in blocks),
        )

    before = everything()
    done = one_slot.command("prefecture", "apply", "--pool", one_slot.pool)
    assert done.returncode == 0, done.stderr
    assert everything() == before
    # Analytics are off here: nothing may be scheduled that no worker runs.
    deployments = one_slot.rest("POST", "/deployments/filter", {}).json()
    assert {s["active"] for d in deployments for s in d["schedules"]} == {False}


@pytest.mark.thorough
def test_prefects_own_deploy_reads_the_same_file(one_slot: Platform) -> None:
    tree = Path(__file__).parents[2]
    done = one_slot.command("prefect", "--no-prompt", "deploy", "--all", folder=tree)
    assert done.returncode == 0, done.stdout + done.stderr
    deployments = one_slot.rest("POST", "/deployments/filter", {}).json()
    assert len(deployments) == len(read_program()) == 21
    assert {d["work_pool_name"] for d in deployments} == {"docker", "platform"}
    again = one_slot.command("prefecture", "apply", "--pool", one_slot.pool)
    assert again.returncode == 0, again.stderr
    job = one_slot.submit_job("find-primes/low", {"upper_bound": 10}, "deployed")
    one_slot.completed(job, "deployed")


@pytest.mark.thorough
def test_jobs_that_want_many_workers_end_in_one_slot(one_slot: Platform) -> None:
    """None waits for a run that cannot start: each does by itself what nobody helps with."""
    files = {"files": 6, "numbers": 1000, "seed": 1}
    payload = {"generate": files, "workers": 4, "partition": 2}
    jobs = [one_slot.submit_job("average-files/normal", payload, "shared") for _ in range(5)]
    folders = [one_slot.completed(job, "shared", timeout=240) for job in jobs]
    assert len({(folder / "means.parquet").read_bytes() for folder in folders}) == 1
    body = {"flows": {"name": {"any_": ["sum-files"]}}}
    for run in one_slot.rest("POST", "/flow_runs/filter", body).json():
        assert one_slot.ended(run["id"])["state_type"] in ("CANCELLED", "COMPLETED")
