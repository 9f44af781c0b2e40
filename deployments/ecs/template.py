"""The base job template of the pool `ecs`, with the settings filled in."""

import json
from pathlib import Path
from typing import Any

from prefect.client.orchestration import PrefectClient

from tasks.contracts import ECS_FAMILY, fargate_size, size_in_bytes
from tasks.errors import OperatorError
from tasks.settings import NETWORK_VARIABLE, Settings, job_environment

_TEMPLATE = Path(__file__).resolve().parents[2] / "work_pools" / "ecs.json"
_BILLION = 1_000_000_000
_MOST_GRACE = 120  # seconds between SIGTERM and SIGKILL that Fargate grants
_LEAST_GRACE = 2


async def ecs_template(
    client: PrefectClient, settings: Settings, image: str | None
) -> dict[str, Any]:
    """The template. Cluster, image, roles and subnets are no variables: no submitter chooses them.

    Raises OperatorError where Fargate has no tasks of the size that the settings ask for. What else
    may be missing is found by `check_ecs` before.
    """
    template: dict[str, Any] = json.loads(_TEMPLATE.read_text())
    job: dict[str, Any] = template["job_configuration"]
    # Nothing of a worker's host is there: what a job writes is in its task, and goes with it.
    own = {"HOME": "/tmp", "PREFECT_HOME": "/tmp/prefect", "PREFECTURE_SCRATCH": "/tmp/scratch"}
    job["env"] = job_environment(settings) | own | {NETWORK_VARIABLE: "{{ network }}"}
    kind, _, name = (settings.ecs_credentials or "").partition("/")
    credentials = await client.read_block_document_by_name(name, kind)
    # What is in the block stays there: the worker reads it.
    job["aws_credentials"] = {"$ref": {"block_document_id": str(credentials.id)}}
    job["cluster"] = job["task_run_request"]["cluster"] = settings.ecs_cluster
    try:
        size = fargate_size(settings.cpus, size_in_bytes(settings.memory))
    except ValueError as error:
        raise OperatorError(f"PREFECTURE_CPUS and PREFECTURE_MEMORY: {error}") from error
    definition: dict[str, Any] = job["task_definition"]
    definition |= {"family": ECS_FAMILY, "cpu": str(size.cpu), "memory": str(size.memory)}
    if settings.ecs_execution_role:
        definition["executionRoleArn"] = settings.ecs_execution_role
    container: dict[str, Any] = definition["containerDefinitions"][0]
    grace = min(_MOST_GRACE, max(_LEAST_GRACE, round(settings.cancel_grace)))
    container |= {"name": ECS_FAMILY, "image": image, "stopTimeout": grace}
    request: dict[str, Any] = job["task_run_request"]
    request["overrides"]["containerOverrides"] = [{"name": ECS_FAMILY}]
    if settings.ecs_task_role:
        request["overrides"]["taskRoleArn"] = settings.ecs_task_role
    if subnets := _listed(settings.ecs_subnets):
        request["networkConfiguration"] = {
            "awsvpcConfiguration": {
                "subnets": subnets,
                "securityGroups": _listed(settings.ecs_security_groups),
                "assignPublicIp": "DISABLED",
            }
        }
    variables: dict[str, Any] = template["variables"]["properties"]
    variables["max_duration"]["default"] = settings.max_duration
    variables["mem_limit"]["default"] = settings.memory
    variables["nano_cpus"]["default"] = settings.cpus * _BILLION
    return template


def _listed(text: str) -> list[str]:
    return text.replace(",", " ").split()
