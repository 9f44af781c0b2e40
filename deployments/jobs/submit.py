"""Submit a job, with everything checked that can be known before it runs."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from deployments.jobs.request import Terms, check_key, cut, one_line
from tasks.errors import InvalidPayload

REFUSED = (400, 404, 409, 422)
"""What the server answers to a job that it does not take."""


async def submit(
    client: PrefectClient, terms: Terms, payload: Mapping[str, Any], key: str | None = None
) -> UUID:
    """Hand a job to the server and return its id at once. Raises InvalidPayload with one line.

    With a key: the job that was submitted with it before, if one was. Raises KeyTaken where that
    is another one.
    """
    if key is not None:
        check_key(key)
    parameters = terms.parameters(payload)
    deployment = await find_deployment(client, terms)
    # Prefect's client sends a request again whose answer was lost: without a key, a second job.
    body = terms.body(parameters, f"submit:{key or uuid4()}")
    run = await submit_job(client, deployment, body)
    if key is not None:
        terms.compare(parameters, run, deployment, key)
    return run.id


async def find_deployment(client: PrefectClient, terms: Terms) -> DeploymentResponse:
    """What jobs on these terms are runs of. Raises InvalidPayload where there is none such."""
    try:
        deployment = await client.read_deployment_by_name(f"{terms.task}/{terms.queue}")
    except ObjectNotFound:
        raise InvalidPayload(
            f"there is no compute task '{cut(terms.task)}': `prefecture tasks` lists them, "
            "`prefecture apply` puts them on the server"
        ) from None
    terms.check_deployment(deployment)
    return deployment


async def submit_job(
    client: PrefectClient, deployment: DeploymentResponse, body: dict[str, Any]
) -> FlowRun:
    """Have the server make a flow run, or give the one that has the key already."""
    try:
        response = await client.request(
            "POST",
            "/deployments/{id}/create_flow_run",
            path_params={"id": deployment.id},
            json=body,
        )
    except PrefectHTTPStatusError as error:
        if error.response.status_code not in REFUSED:
            raise
        raise InvalidPayload(one_line(_said(error.response))) from error
    return FlowRun.model_validate(response.json())


def _said(refusal: httpx.Response) -> str:
    """Why; a proxy in between may say it in any form."""
    try:
        answer: Any = refusal.json()
        return str(answer.get("detail") or answer.get("exception_detail") or answer)
    except (ValueError, AttributeError):
        return refusal.text
