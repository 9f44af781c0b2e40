"""Checks what jobs in Amazon ECS need, before they are put there."""

import asyncio
from pathlib import Path

from tasks.errors import OperatorError
from tasks.prefect_api.ecs import ecs_cluster
from tasks.settings import Settings


async def check_ecs(settings: Settings, image: str | None) -> None:
    """Raise an error with one line that names the cure: OperatorError where a setting or a role is
    missing or wrong, EngineUnavailable where ECS does not answer or has no such cluster."""
    cluster = ecs_cluster(settings)
    if image is None:
        raise OperatorError(
            "the pool ecs needs PREFECTURE_IMAGE, an image in a registry that ECS reaches: push "
            "the one that `prefecture image` makes"
        )
    if isinstance(settings.results, Path):
        raise OperatorError(
            "the pool ecs needs results in S3, as its jobs share no folder: set "
            "PREFECTURE_RESULTS_ROOT to an s3:// address"
        )
    await asyncio.to_thread(cluster.check)
    roles = {
        "PREFECTURE_ECS_EXECUTION_ROLE": settings.ecs_execution_role,
        "PREFECTURE_ECS_TASK_ROLE": settings.ecs_task_role,
    }
    for setting, role in roles.items():
        if role is not None:
            await asyncio.to_thread(cluster.check_role, setting, role)
