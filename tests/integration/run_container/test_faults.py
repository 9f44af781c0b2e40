"""What dies around a user's container: it is ended with its job, and run again where it must be."""

from typing import Any

import pytest

from tests.integration.run_container.jobs import (
    built_images,
    demo,
    logged,
    real,
    running_sibling,
    shell,
    siblings,
    submit_job,
)
from tests.support.containers import kill_container
from tests.support.platform import Platform, wait_until


def attempts(platform: Platform, job: Any) -> list[dict[str, Any]]:
    keys = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{job}:{n}" for n in (2, 3)]}}}
    return platform.rest("POST", "/flow_runs/filter", keys).json()


def test_the_flow_is_killed(docker_platform: Platform) -> None:
    gate = docker_platform.inputs / "gate"
    gate.mkdir()
    (gate / "closed").touch()
    # It ends when it is let, however long a test on a busy machine takes to get so far.
    payload = demo("until [ -e /input/open ]; do sleep 0.2; done") | {"inputs": gate.name}
    job = submit_job(docker_platform, payload, "killed")
    first = running_sibling(docker_platform, job)
    kill_container(docker_platform, str(job))
    second = running_sibling(docker_platform, job, not_that=first.id)
    # By then the first was gone: never do two run at once.
    assert [one.id for one in siblings(docker_platform, job)] == [second.id]
    assert second.attrs["Image"] == first.attrs["Image"]
    (again,) = attempts(docker_platform, job)
    assert again["work_queue_name"] == "high"
    (gate / "open").touch()
    assert docker_platform.ended(again["id"])["state_type"] == "COMPLETED"
    folder = docker_platform.results / "killed" / str(job)
    assert (folder / "output" / "output.txt").read_text() == "written\n"
    assert siblings(docker_platform, job) == []
    assert built_images(docker_platform, job) == []


@pytest.mark.thorough
def test_the_job_is_cancelled(docker_platform: Platform) -> None:
    job = submit_job(docker_platform, shell("echo up; sleep 600"), "cancelled")
    running_sibling(docker_platform, job)
    wait_until(lambda: "up" in logged(docker_platform, job), what="what it says is shown live")
    done = docker_platform.command("prefecture", "cancel", str(job))
    assert done.stdout.strip() == f"job {job} is cancelled", done.stderr
    assert siblings(docker_platform, job) == []
    assert not (docker_platform.results / "cancelled" / str(job)).exists()
    assert not list((docker_platform.results / ".staging").glob(f"{job}.*"))


@pytest.mark.thorough
def test_the_time_limit_of_the_attempt(docker_platform: Platform) -> None:
    response = docker_platform.create(
        "run-container/high",
        parameters={"payload": real(shell("sleep 600")), "results_directory": "late"},
        job_variables={"max_duration": 4},
    )
    job = response.json()["id"]
    run = docker_platform.ended(job)
    assert run["state"]["message"].startswith("time limit: it ran longer than its 4 s")
    wait_until(lambda: not siblings(docker_platform, job), what="its container is gone")


@pytest.mark.thorough
def test_only_the_users_container_is_killed(docker_platform: Platform) -> None:
    gate = docker_platform.inputs / "killed"
    gate.mkdir()
    (gate / "closed").touch()
    payload = shell("until [ -e /input/open ]; do sleep 0.2; done", inputs=gate.name)
    job = submit_job(docker_platform, payload, "killed")
    first = running_sibling(docker_platform, job)
    first.kill()
    # The engine's events say that it was no end of its own: the job is tried again.
    running_sibling(docker_platform, job, not_that=first.id)
    (gate / "open").touch()
    (again,) = attempts(docker_platform, job)
    assert docker_platform.ended(again["id"])["state_type"] == "COMPLETED"
    reason = docker_platform.run(job)["state"]["message"]
    assert "the container was ended by SIGKILL from outside" in reason
    assert siblings(docker_platform, job) == []
