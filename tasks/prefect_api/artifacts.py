"""Artifacts of jobs, by requests alone.

Prefect's functions emit an event for each artifact too. For that a job would open a websocket, and
read its flow, deployment, work queue and work pool from the server: a fifth of its requests.
"""

from typing import Any, Literal
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate


async def create_artifact(
    run: UUID, kind: Literal["markdown", "progress"], data: Any, description: str
) -> UUID:
    """Create an artifact of a flow run. Returns its id. Raises httpx.HTTPError."""
    artifact = ArtifactCreate(type=kind, data=data, description=description, flow_run_id=run)
    async with get_client() as client:
        body = artifact.model_dump(mode="json", exclude_unset=True)
        response = await client.request("POST", "/artifacts/", json=body)
    return UUID(response.json()["id"])


async def update_artifact(id: UUID, data: Any, description: str) -> None:
    """Replace what an artifact shows. Raises httpx.HTTPError."""
    change = ArtifactUpdate(data=data, description=description)
    async with get_client() as client:
        body = change.model_dump(mode="json", exclude_unset=True)
        await client.request("PATCH", "/artifacts/{id}", path_params={"id": id}, json=body)
