"""The pool `ecs`, against moto: a job is one task, whose end the supervisor sees and judges."""

import asyncio
import json
from collections.abc import Generator
from uuid import UUID

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.ecs.checks import check_ecs
from tasks.errors import PrefectureError
from tasks.settings import Settings
from tests.integration.ecs.running import (
    BUCKET,
    CLUSTER,
    IMAGE,
    RUN,
    WORKER,
    Ecs,
    applied,
    ecs_up,
    role,
    tags,
)
from tests.support.platform import wait_until

pytestmark = pytest.mark.thorough

SMALL = {"upper_bound": 100}


@pytest.fixture(scope="module")
def ecs(tmp_path_factory: pytest.TempPathFactory) -> Generator[Ecs]:
    with ecs_up(tmp_path_factory.mktemp("ecs"), {"PREFECTURE_REQUEUE_BACKOFF": "1"}) as running:
        yield running


def manifest(ecs: Ecs, directory: str, job: UUID) -> dict[str, object]:
    key = f"team/{directory}/{job}/manifest.json"
    return json.loads(ecs.storage.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def test_a_job_is_one_task_and_holds_its_slot_to_the_end(ecs: Ecs) -> None:
    platform = ecs.platform
    done = platform.command(
        *("prefecture", "submit", "find-primes", json.dumps(SMALL), "first", "--memory", "5g")
    )
    job = UUID(done.stdout.strip())
    later = platform.submit_job("find-primes/normal", SMALL, "later")
    task = ecs.task_of(job)
    asked = task["overrides"]
    (container,) = asked["containerOverrides"]
    assert container["command"] == ["python", "-m", "work_pools.entrypoint.run"]
    # Of the sizes that Fargate has, the least with two CPUs (one, on a small machine) and 5 GiB.
    assert asked["memory"] == "5120"
    assert asked["taskRoleArn"].endswith(":role/jobs")
    environment = {each["name"]: each["value"] for each in container["environment"]}
    assert environment["PREFECTURE_RESULTS_ROOT"] == f"s3://{BUCKET}/team"
    assert environment["PREFECT_API_AUTH_STRING"].startswith(f"run:{job}.")  # no password
    assert tags(task)[RUN] == str(job)
    found = ecs.client.describe_task_definition(taskDefinition=task["taskDefinitionArn"])
    (defined,) = found["taskDefinition"]["containerDefinitions"]
    assert (defined["image"], defined["user"]) == (IMAGE, "10001:10001")

    ecs.run(task)
    assert platform.ended(job)["state_type"] == "COMPLETED"
    assert manifest(ecs, "first", job)["attempt"] == 1
    assert platform.run(later)["state_type"] == "SCHEDULED", "the task has not ended"
    ecs.end(task, "Essential container in task exited")
    second = ecs.task_of(later)
    assert len([each for each in ecs.tasks() if tags(each)[RUN] in (str(job), str(later))]) == 2
    ecs.run(second)
    assert platform.ended(later)["state_type"] == "COMPLETED"
    ecs.end(second, "Essential container in task exited")


def test_a_job_whose_task_ends_is_tried_again_in_high(ecs: Ecs) -> None:
    platform = ecs.platform
    job = platform.submit_job("find-primes/low", SMALL, "again")
    ecs.end(ecs.task_of(job), "CannotPullContainerError: no such image")
    assert platform.ended(job)["state_type"] == "CRASHED"
    second = ecs.successor(job, 2)
    assert second["work_queue_name"] == "high"
    reason = "its task in ECS ended: CannotPullContainerError: no such image"
    assert f"attempt 2 of 5, after: {reason}" in second["tags"]
    task = ecs.task_of(second["id"])
    ecs.end(task, "Essential container in task exited", code=137)
    third = ecs.successor(job, 3)
    assert "attempt 3 of 5, after: killed (exit code 137)" in third["tags"]
    task = ecs.task_of(third["id"])
    ecs.run(task)
    assert platform.ended(UUID(third["id"]))["state_type"] == "COMPLETED"
    assert manifest(ecs, "again", job)["attempt"] == 3
    ecs.end(task, "Essential container in task exited")


def test_a_cancelled_job_has_its_task_stopped(ecs: Ecs) -> None:
    platform = ecs.platform
    job = platform.submit_job("find-primes/normal", SMALL, "cancelled")
    task = ecs.task_of(job)
    done = platform.command("prefecture", "cancel", str(job))
    assert done.returncode == 0, done.stderr
    assert platform.ended(job)["state_type"] == "CANCELLED"

    def stopped() -> bool:
        found = ecs.task_of(job)
        return (found["lastStatus"], found["stoppedReason"]) == (
            "STOPPED",
            "stopped by Prefecture",
        )

    wait_until(stopped, what="its task has ended")
    assert [each for each in ecs.tasks() if each["taskArn"] == task["taskArn"]]
    status = platform.command("prefecture", "status").stdout
    assert WORKER in status


def test_no_job_is_taken_while_the_cluster_is_gone(ecs: Ecs) -> None:
    platform = ecs.platform

    def is_paused() -> bool:
        return platform.rest("GET", "/work_pools/ecs").json()["is_paused"]

    ecs.client.delete_cluster(cluster=CLUSTER)
    try:
        wait_until(is_paused, what="the intake is held")
        said = platform.command("prefecture", "status", "--json").stdout
        assert f"ECS has no active cluster {CLUSTER}: create it, or correct" in said
    finally:
        ecs.client.create_cluster(clusterName=CLUSTER)
    wait_until(lambda: not is_paused(), what="the intake is resumed")


def test_what_is_missing_or_wrong_is_named_in_one_line(ecs: Ecs) -> None:
    endpoint = str(ecs.client.meta.endpoint_url)
    other = role(endpoint, "lambdas", "lambda.amazonaws.com")
    right = {
        "home": ecs.folder,
        "ecs_cluster": CLUSTER,
        "ecs_credentials": "aws-credentials/ecs",
        "results_root": f"s3://{BUCKET}/team",
    }
    wrong = {
        "the pool ecs needs PREFECTURE_ECS_CLUSTER": {"ecs_cluster": None},
        "the pool ecs needs results in S3": {"results_root": ecs.folder},
        "there is no block aws-credentials/none": {"ecs_credentials": "aws-credentials/none"},
        "ECS has no active cluster nowhere": {"ecs_cluster": "nowhere"},
        f"tasks in ECS cannot have the role {other}": {"ecs_task_role": other},
        f"there is no role {other}s": {"ecs_execution_role": f"{other}s"},
    }
    with temporary_settings({PREFECT_API_URL: ecs.platform.api}):
        for line, settings in wrong.items():
            with pytest.raises(PrefectureError) as refused:
                asyncio.run(check_ecs(Settings.model_validate(right | settings), IMAGE))
            assert str(refused.value).startswith(line)
            assert "\n" not in str(refused.value)
    done = applied(ecs.platform, PREFECTURE_ECS_CLUSTER="nowhere")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("prefecture: ECS has no active cluster nowhere")
