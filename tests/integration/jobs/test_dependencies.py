"""Jobs that wait for other jobs, and read their results."""

import json
from typing import Any, cast
from uuid import UUID, uuid4

import pyarrow.parquet as pq
import pytest

from deployments import Job, submit, submit_many
from tasks.errors import InvalidPayload, JobFailedError
from tests.support.platform import Platform, pause, wait_until

PRIMES, NO_SUCH = {"upper_bound": 100}, {"source": "no-such-folder"}


def average_of(source: str, **more: object) -> Job:
    return submit("average-files", {"source": source}, "chain", queue="high", **more)  # pyright: ignore[reportArgumentType]


def test_each_job_of_a_chain_reads_the_result_of_the_one_before(here: Platform) -> None:
    key = f"chain-{uuid4()}"
    with pause(here):
        primes = submit("find-primes", PRIMES, "chain/of", queue="high", key=key)
        means = average_of(f"job://{primes.id}/*.parquet")
        last = average_of(f"job://{means.id}/means.parquet", after=[key])
        run = here.run(last.id)
        assert (run["state_type"], run["state_name"]) == ("PAUSED", "Waiting")
        assert run["parameters"]["payload"]["source"] == f"job://chain/{means.id}/means.parquet"
        shown = json.loads(here.command("prefecture", "explain", str(means.id), "--json").stdout)
        assert shown["job"]["state"] == "blocked"
        assert shown["reasons"] == [f"waits for job {primes.id} ({here.run(primes.id)['name']})"]
        assert means.progress().state == "Waiting"
    folder = here.completed(last.id, "chain")
    read = cast(Any, pq).read_table
    found = read(here.completed(primes.id, "chain/of") / "primes.parquet")
    assert read(folder / "means.parquet")[0].to_pylist() == found[0].to_pylist()
    # What is done already is not waited for.
    assert here.run(average_of(f"job://{primes.id}/").id)["state_name"] != "Waiting"


@pytest.mark.thorough
def test_a_chain_ends_with_the_reason_of_its_first_failure(here: Platform) -> None:
    key = f"second-{uuid4()}"
    with pause(here):
        first = average_of("no-such-folder", name="the-first")
        second = average_of(f"job://{first.id}/", key=key)
        third = submit("find-primes", PRIMES, "chain", queue="high", after=[second])
        anyhow = submit(
            "find-primes", PRIMES, "chain", queue="high", after=[first], after_ended=True
        )
        (many,) = submit_many("find-primes", [PRIMES], "chain", queue="high", after=[second.id])
    for job in (second, third, many):
        with pytest.raises(JobFailedError) as failed:
            job.wait(240)
        assert failed.value.args[0].endswith(f"did not run: job {first.id} (the-first) failed")
        assert here.run(job.id)["run_count"] == 0
    anyhow.wait(240)
    with pytest.raises(InvalidPayload, match=r"after: job .* \(the-first\) has failed: restart it"):
        average_of(f"job://{first.id}/")
    assert average_of(f"job://{first.id}/", key=key) == second, "it was submitted before that"
    again = here.command("prefecture", "restart", str(second.id))
    assert f"job {second.id}: after: job {first.id} (the-first) has failed" in again.stderr
    said = wait_until(
        lambda: [
            line
            for line in here.command("prefecture", "inbox").stdout.splitlines()
            if str(third.id)[:8] in line
        ],
        what="the notification",
    )
    assert "did not run" in said[0]


@pytest.mark.thorough
def test_what_waits_for_a_crashed_job_waits_for_its_next_attempt(here: Platform) -> None:
    first = submit("find-primes", {"upper_bound": 10**10}, "chain", queue="high")
    second = submit("find-primes", PRIMES, "chain", queue="high", after=[first])
    wait_until(lambda: here.run(first.id)["state_type"] == "RUNNING", what="it runs")
    crashed = {"state": {"type": "CRASHED", "message": "killed by a test"}, "force": True}
    here.rest("POST", f"/flow_runs/{first.id}/set_state", crashed)
    wait_until(lambda: first.progress().attempt == 2, what="the next attempt")
    assert second.status == "Waiting"
    first.cancel()
    with pytest.raises(JobFailedError, match=rf"did not run: job {first.id} \(.*\) was cancelled"):
        second.wait(240)


@pytest.mark.parametrize(
    ("after", "source", "named"),
    [
        ([str(UUID(int=7))], "x", "after: no job 00000000-0000-0000-0000-000000000007 is known"),
        (["  "], "x", "after: one is empty"),
        ([], f"job://{UUID(int=7)}/x", "payload.source: no job 00000000-"),
        ([], "job://../x", "prefix"),
    ],
    ids=str,
)
def test_what_no_job_can_wait_for(
    here: Platform, after: list[str], source: str, named: str
) -> None:
    with pytest.raises(InvalidPayload) as refused:
        average_of(source, after=after)
    assert "\n" not in str(refused.value)
    if named != "prefix":
        assert named in str(refused.value)
