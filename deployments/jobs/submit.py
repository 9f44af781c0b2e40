"""Submits a job, after all checks that are possible before it runs."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterIdempotencyKey,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from deployments.jobs.dependencies.after import EVERYTHING, Dependencies, Rights, prepare
from deployments.jobs.request import Terms, check_key, cut, one_line
from deployments.pools import read_offers
from tasks.contracts import Resources, resources_asked
from tasks.errors import InvalidPayload
from tasks.prefect_api.briefly import briefly

REFUSED = (400, 404, 409, 422)
"""Status codes with which the server refuses a job."""
_KNOWN_FOR = 5.0  # seconds for which a client knows a deployment that it has read


async def submit(
    client: PrefectClient,
    terms: Terms,
    payload: Mapping[str, Any],
    key: str | None = None,
    rights: Rights = EVERYTHING,
) -> UUID:
    """Submit a job and return its id at once.

    With a key, returns the job that was submitted with it before, if any, and raises KeyTaken where
    that job is different. Raises InvalidPayload, in one line that names the field, and the errors
    of the rights.
    """
    if key is not None:
        check_key(key)
    parameters = terms.parameters(payload)
    deployment = await find_deployment(client, terms, payload, may_be_known=True)
    (prepared,) = await prepare(
        client,
        [parameters["payload"]],
        deployment,
        rights,
        terms.after,
        after_ended=terms.after_ended,
    )
    parameters["payload"], after = prepared.payload, prepared.dependencies
    # Prefect's client repeats a request whose answer was lost: without a key, that is a second job.
    body = terms.body(parameters, _own_key(rights, key or str(uuid4())))
    run = await submit_or_find(client, deployment, body, after, may_exist=key is not None)
    if key is not None:
        terms.compare(parameters, run, deployment, key, after.labels)
    return run.id


async def find_submitted(
    client: PrefectClient, key: str, rights: Rights = EVERYTHING
) -> UUID | None:
    """The job that was submitted with a key, if there is one."""
    named = FlowRunFilterIdempotencyKey(any_=[_own_key(rights, key)])
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(idempotency_key=named))
    return found[0].id if found else None


def _own_key(rights: Rights, key: str) -> str:
    """The key as the server has it: each user has keys of their own."""
    return f"submit:{rights.owner}{key}"


async def submit_or_find(
    client: PrefectClient,
    deployment: DeploymentResponse,
    body: dict[str, Any],
    after: Dependencies,
    *,
    may_exist: bool,
) -> FlowRun:
    """As `submit_job`, for a job that waits for others. Raises InvalidPayload where it can never
    run; but where it `may_exist`, it was submitted before that was known."""
    if after.refusal:
        run = await _existing(client, deployment, body) if may_exist else None
        if run is not None:
            return run
        after.check()
    return await submit_job(client, deployment, body | after.fields)


async def _existing(
    client: PrefectClient, deployment: DeploymentResponse, body: dict[str, Any]
) -> FlowRun | None:
    """The flow run of a deployment's flow that has the key of a request."""
    found = await client.read_flow_runs(
        flow_filter=FlowFilter(id=FlowFilterId(any_=[deployment.flow_id])),
        flow_run_filter=FlowRunFilter(
            idempotency_key=FlowRunFilterIdempotencyKey(any_=[body["idempotency_key"]])
        ),
    )
    return found[0] if found else None


async def find_deployment(
    client: PrefectClient,
    terms: Terms,
    payload: Mapping[str, Any] | None = None,
    *,
    may_be_known: bool = False,
) -> DeploymentResponse:
    """Find the deployment for these terms. Raises InvalidPayload where there is none, or where no
    host has as many GPUs as the terms or the payload ask for.

    `may_be_known`: whether the client may have read it some seconds ago.
    """
    read = _read_briefly if may_be_known else _read
    try:
        deployment = await read(client, f"{terms.task}/{terms.in_queue}")
    except ObjectNotFound:
        raise InvalidPayload(
            f"there is no compute task '{cut(terms.task)}': `prefecture tasks` lists them, "
            "`prefecture apply` puts them on the server"
        ) from None
    terms.check_deployment(deployment)
    await _check_gpus(client, deployment, resources_asked([terms.limits], payload))
    return deployment


async def _read(client: PrefectClient, name: str) -> DeploymentResponse:
    return await client.read_deployment_by_name(name)


_read_briefly = briefly(_KNOWN_FOR)(_read)


async def _check_gpus(
    client: PrefectClient, deployment: DeploymentResponse, asked: Resources
) -> None:
    """Raise InvalidPayload where no host, online or not, offers as many GPUs as are asked for."""
    if not asked.gpus or deployment.work_pool_name is None:
        return
    workers = await client.read_workers_for_work_pool(deployment.work_pool_name)
    names = [worker.name for worker in workers]
    offers = await read_offers(client, deployment.work_pool_name, names)
    most = max((offer.gpus for offer in offers.values() if offer), default=0)
    if asked.gpus > most:
        raise InvalidPayload(
            f"gpus: {asked.gpus} asked for, and no host offers more than {most}: set "
            "PREFECTURE_HOST_GPUS where there are GPUs"
        )


async def submit_job(
    client: PrefectClient, deployment: DeploymentResponse, body: dict[str, Any]
) -> FlowRun:
    """Create a flow run, or get the existing one with the key. Raises InvalidPayload if refused."""
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
        raise InvalidPayload(one_line(_reason(error.response))) from error
    return FlowRun.model_validate(response.json())


def _reason(refusal: httpx.Response) -> str:
    """The reason of a refusal; a proxy may give it in any form."""
    try:
        answer: Any = refusal.json()
        return str(answer.get("detail") or answer.get("exception_detail") or answer)
    except (ValueError, AttributeError):
        return refusal.text
