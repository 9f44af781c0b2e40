"""`prefecture scale`: how many jobs run at once, changed while they run."""

from collections.abc import Generator
from typing import Any

import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.platforms import trial_platform
from tests.support.platform import Platform, wait_until

SHORT = {"upper_bound": 10}


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    home = tmp_path_factory.mktemp("elastic")
    with trial_platform(home, "process", slots=1, most=3) as platform:
        yield platform


def scale(platform: Platform, jobs: int) -> None:
    done = platform.command("prefecture", "scale", str(jobs), "--pool", platform.pool)
    assert done.returncode == 0, done.stderr
    assert f"at most {jobs} jobs at once on pool {platform.pool}" in done.stdout


def running(platform: Platform) -> int:
    body: dict[str, Any] = {"flow_runs": {"state": {"type": {"any_": ["RUNNING"]}}}}
    return len(platform.rest("POST", "/flow_runs/filter", body).json())


@pytest.mark.thorough
def test_up_and_down_while_jobs_run(elastic: Platform) -> None:
    jobs = Drill(elastic, "scale").submit(3, gate="middle")  # they wait until they are cancelled
    wait_until(lambda: running(elastic) == 1, what="one runs")
    scale(elastic, 3)
    wait_until(lambda: running(elastic) == 3, what="three run")
    scale(elastic, 1)
    again = elastic.command("prefecture", "apply", "--pool", elastic.pool)
    assert again.returncode == 0, again.stderr
    first, second = [elastic.submit_job("find-primes/high", SHORT, "short") for _ in range(2)]
    for job in jobs[:2]:
        assert elastic.command("prefecture", "cancel", str(job)).returncode == 0
    # One of the three is left, and is as many as may run.
    assert running(elastic) == 1
    assert elastic.run(first)["state_type"] == "SCHEDULED"
    assert elastic.command("prefecture", "cancel", str(jobs[2])).returncode == 0
    earlier, later = elastic.ended(first), elastic.ended(second)
    assert earlier["end_time"] <= later["start_time"]


@pytest.mark.thorough
def test_what_cannot_be(elastic: Platform) -> None:
    refused = elastic.command("prefecture", "scale", "-1", "--pool", elastic.pool)
    assert (refused.returncode, refused.stderr) == (
        1,
        "prefecture: -1 jobs at once: use 0 or more\n",
    )
    refused = elastic.command("prefecture", "up", "--workers", "4", "--most", "2")
    assert refused.returncode == 1
    assert "--most 2: at least as many as --workers, 4" in refused.stderr


def test_more_than_the_workers_take(process_platform: Platform) -> None:
    path = f"/work_pools/{process_platform.pool}"
    try:
        wait_until(
            lambda: len(
                process_platform.rest(
                    "POST",
                    "/variables/filter",
                    {"variables": {"name": {"like_": "prefecture_worker_"}}},
                ).json()
            ),
            what="the worker has said how many jobs it takes",
        )
        done = process_platform.command("prefecture", "scale", "3", "--pool", "process")
        assert done.returncode == 0
        assert done.stdout == "at most 3 jobs at once on pool process\n"
        assert done.stderr.startswith("the workers that serve it take 2: start them for more")
    finally:
        process_platform.rest("PATCH", path, {"concurrency_limit": None}).raise_for_status()
