"""A Prefecture whose jobs are tasks of Amazon ECS: moto's, which keeps tasks and runs nothing."""

import json
import os
import subprocess
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ecs.models import ecs_backends

from tests.support.migrated import put_database
from tests.support.platform import (
    BIN,
    PATIENCE,
    Platform,
    ends_with_us,
    free_port,
    http,
    is_ready,
    run_command,
    wait_until,
)
from tests.support.several.parts import Part
from tests.support.storage import KEYS, client_of, moto_server, save_aws_block

TREE = Path(__file__).resolve().parents[3]
CLUSTER, WORKER, BUCKET, REGION = "compute", "ecs-1", "results", "us-east-1"
IMAGE = "registry.example.org/prefecture:1"
RUN = "prefect.io/flow-run-id"
Task = dict[str, Any]
_PREFECTURE = str(BIN / "prefecture")


@dataclass
class Ecs:
    """A server, a worker and a supervisor of the pool `ecs`, and the cluster."""

    platform: Platform
    client: Any
    """Of ECS."""
    storage: Any
    """Of S3."""
    folder: Path

    def tasks(self) -> list[Task]:
        """Every task of the cluster, those that have ended too; the first one first."""
        arns = self.client.list_tasks(cluster=CLUSTER)["taskArns"]
        if not arns:
            return []
        found = self.client.describe_tasks(cluster=CLUSTER, tasks=arns, include=["TAGS"])["tasks"]
        return sorted(found, key=lambda task: arns.index(task["taskArn"]))

    def task_of(self, run: UUID | str) -> Task:
        """The task of a flow run, once there is one."""

        def look() -> Task | None:
            return next((task for task in self.tasks() if tags(task)[RUN] == str(run)), None)

        return wait_until(look, what=f"there is a task of {run}")

    def end(self, task: Task, reason: str, code: int = 0) -> None:
        """Have a task end, with an exit code of its container, as if by itself."""
        kept: Any = ecs_backends[DEFAULT_ACCOUNT_ID][REGION].tasks[CLUSTER][task["taskArn"]]
        kept.containers[0].exitCode = code
        self.client.stop_task(cluster=CLUSTER, task=task["taskArn"], reason=reason)

    def run(self, task: Task) -> None:
        """Run what the container of a task would run, as a process of this machine, to its end."""
        (override,) = task["overrides"]["containerOverrides"]
        own = {each["name"]: each["value"] for each in override["environment"]}
        place = self.folder / task["taskArn"].rpartition("/")[2]
        place.mkdir()
        # The folders of the container; a machine has other jobs in them.
        own |= {"HOME": str(place), "PREFECT_HOME": str(place / "prefect")}
        own |= {"PREFECTURE_SCRATCH": str(place / "scratch"), "PATH": f"{BIN}:{os.environ['PATH']}"}
        command = [str(BIN / override["command"][0]), *override["command"][1:]]
        with (place / "output").open("wb") as output:
            subprocess.run(
                ends_with_us(*command),
                env=own,
                cwd=TREE,
                stdout=output,
                stderr=output,
                timeout=PATIENCE,
                check=True,
            )

    def successor(self, job: UUID, attempt: int) -> dict[str, Any]:
        """A later attempt at a job, once it is there."""
        wanted = {"flow_runs": {"idempotency_key": {"any_": [f"requeue:{job}:{attempt}"]}}}
        found = wait_until(
            lambda: self.platform.rest("POST", "/flow_runs/filter", wanted).json(),
            what=f"attempt {attempt} at {job}",
        )
        return found[0]


def tags(task: Task) -> dict[str, str]:
    """The tags of a task."""
    return {tag["key"]: tag["value"] for tag in task["tags"]}


def role(endpoint: str, name: str, service: str) -> str:
    """Make a role that a service may have. Returns its ARN."""
    iam: Any = aws("iam", endpoint)
    policy = {"Statement": [{"Effect": "Allow", "Principal": {"Service": service}}]}
    made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(policy))
    return made["Role"]["Arn"]


def aws(service: str, endpoint: str) -> Any:
    """A client of moto's server."""
    return boto3.client(  # pyright: ignore[reportCallIssue, reportUnknownVariableType, reportUnknownMemberType]
        service,  # pyright: ignore[reportArgumentType]
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=KEYS["access"],
        aws_secret_access_key=KEYS["secret"],
    )


def applied(platform: Platform, **settings: str) -> subprocess.CompletedProcess[str]:
    """`prefecture apply --pool ecs`, with these settings beside the platform's."""
    env = {**platform.environment, **settings}
    return run_command("prefecture", "apply", "--pool", "ecs", env=env)


@contextmanager
def _tasks_stay(endpoint: str) -> Generator[None]:
    """Else moto has a task end after it was described four times."""
    of_tasks = {"model_name": "ecs::task"}
    never = {"progression": "manual", "times": 10**9}
    address = f"{endpoint}/moto-api/state-manager"
    http().post(f"{address}/set-transition", json=of_tasks | {"transition": never})
    yield
    http().post(f"{address}/unset-transition", json=of_tasks)


@contextmanager
def ecs_up(folder: Path, settings: Mapping[str, str]) -> Generator[Ecs]:
    """Start everything, with a worker for one job at once."""
    with moto_server() as endpoint, ExitStack() as started:
        started.enter_context(_tasks_stay(endpoint))
        client = aws("ecs", endpoint)
        client.create_cluster(clusterName=CLUSTER)
        storage = client_of(endpoint)
        storage.create_bucket(Bucket=BUCKET)
        home, port = folder / "home", free_port()
        home.mkdir(parents=True)
        put_database(home)
        api = f"http://127.0.0.1:{port}/api"
        environment = {
            **os.environ,
            "PREFECTURE_HOME": str(home),
            "PREFECT_HOME": str(folder / "client"),
            "PREFECT_API_URL": api,
            "DO_NOT_TRACK": "1",
            "PREFECTURE_IMAGE": IMAGE,
            "PREFECTURE_RESULTS_ROOT": f"s3://{BUCKET}/team",
            "PREFECTURE_S3_CREDENTIALS": "aws-credentials/ecs",
            "PREFECTURE_ECS_CLUSTER": CLUSTER,
            "PREFECTURE_ECS_CREDENTIALS": "aws-credentials/ecs",
            "PREFECTURE_ECS_TASK_ROLE": role(endpoint, "jobs", "ecs-tasks.amazonaws.com"),
            **settings,
        }
        serve = [_PREFECTURE, "server", "--port", str(port)]
        server = Part("server", serve, environment, folder, lambda: is_ready(api))
        started.callback(server.stop)
        server.start()
        server.wait()
        platform = Platform("ecs", home, port, server.process, environment)
        save_aws_block(platform, "ecs", endpoint)
        done = applied(platform)
        assert done.returncode == 0, done.stderr
        work = ["work", "--pool", "ecs", "--name", WORKER, "--limit", "1"]
        supervise = ["supervise", "--pool", "ecs", "--worker", WORKER]
        for name, words in (("worker", work), ("supervisor", supervise)):
            part = Part(name, [_PREFECTURE, *words], environment, folder)
            started.callback(part.stop)
            part.start()
        yield Ecs(platform, client, storage, folder)
