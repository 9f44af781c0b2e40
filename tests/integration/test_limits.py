"""How much a job may use: what its deployment says, or whoever hands it in; checked at once."""

from itertools import product
from typing import Any
from uuid import UUID

import pytest

from tests.support.platform import Platform, pause
from tests.support.session.tiers import thorough

HOUR = 3600
LIMITS = {
    "find-primes": HOUR,
    "compress-images": 6 * HOUR,
    "convert-images": 6 * HOUR,
    "average-files": 6 * HOUR,
}


@pytest.mark.parametrize("task", LIMITS)
def test_each_task_has_a_time_limit_on_every_queue(platform: Platform, task: str) -> None:
    of_pictures = platform.pool == "docker" and task.endswith("-images")
    container = {"container": "fresh"} if of_pictures else {}
    for queue in ("high", "normal", "low"):
        deployment = platform.rest("GET", f"/deployments/name/{task}/{queue}").json()
        assert deployment["job_variables"] == {
            "max_duration": LIMITS[task],
            "network": "server",
            **container,
        }
        assert deployment["work_pool_name"] == platform.pool


def test_who_starts_containers_has_the_engine_and_a_week(docker_platform: Platform) -> None:
    tasks = ("run-container", "generate-data")
    for task, queue in product(tasks, ("high", "normal", "low")):
        name = f"/deployments/name/{task}/{queue}"
        variables = docker_platform.rest("GET", name).json()["job_variables"]
        assert variables.keys() == {"max_duration", "engine", "container"}
        assert variables["container"] == "fresh"
        assert variables["max_duration"] == 7 * 24 * HOUR
        assert variables["engine"].endswith(":/run/prefecture/docker.sock")


def test_the_pool_says_what_holds_where_no_one_does(platform: Platform) -> None:
    pool = platform.rest("GET", f"/work_pools/{platform.pool}").json()
    limit = pool["base_job_template"]["variables"]["properties"]["max_duration"]
    assert limit["default"] == 24 * HOUR
    assert limit["title"]


@pytest.mark.parametrize("limit", ["soon", 0, -1, 2.5, True, [60], 31_536_001, 10**20], ids=str)
def test_a_wrong_time_limit_is_refused_at_submission(platform: Platform, limit: Any) -> None:
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "never"}
    response = platform.create(
        "find-primes/high", parameters=parameters, job_variables={"max_duration": limit}
    )
    assert response.status_code == 422, response.text
    assert "max_duration" in response.json()["detail"]


@pytest.mark.thorough
def test_the_command_line_hands_limits_on(docker_platform: Platform) -> None:
    submit = ["prefecture", "submit", "find-primes", '{"upper_bound": 10}', "limits"]
    with pause(docker_platform):
        plain = docker_platform.command(*submit)
        small = docker_platform.command(*submit, "--max-duration", "90", "--memory", "512m")
    assert (plain.returncode, small.returncode) == (0, 0), plain.stderr + small.stderr
    jobs = [UUID(done.stdout.strip()) for done in (plain, small)]
    runs = [docker_platform.run(job) for job in jobs]
    assert runs[0]["job_variables"] == {}
    assert runs[1]["job_variables"] == {"max_duration": 90, "mem_limit": "512m"}
    for job in jobs:
        docker_platform.completed(job, "limits")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-duration", "0"], "max_duration: 0 is less than 1 second"),
        thorough(
            ["--max-duration", "31536001"],
            "max_duration: 31536001 is more than a year, 31536000 seconds",
        ),
        thorough(
            ["--memory", "much"], "memory: 'much' is not a number and k, m or g, such as 512m"
        ),
        (["--memory", "1g"], "memory: jobs run as plain processes here, which have no such limit"),
    ],
)
def test_the_command_line_refuses(
    process_platform: Platform, words: list[str], message: str
) -> None:
    submit = ["prefecture", "submit", "find-primes", '{"upper_bound": 10}', "limits"]
    done = process_platform.command(*submit, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"prefecture: {message}\n"
