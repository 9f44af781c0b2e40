"""An endpoint of the embedded server that creates the flow runs of many jobs in one request.

Prefect's own `create_flow_run/bulk` creates one run after the other, each with a dozen statements
and two checks of the pool's schema: 25 ms of the server's one core. This endpoint checks the common
terms once and inserts the runs together, with the function of Prefect's scheduler.

That function, `_insert_scheduled_flow_runs`, is private to Prefect. This module is the only one
that uses it and other internals of Prefect's server. The rows and events must equal those of
Prefect's own endpoint: tests/integration/jobs/test_endpoint.py compares them column by column.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, HTTPException, status
from prefect.server import models, schemas
from prefect.server.api.deployments import router
from prefect.server.api.validation import validate_job_variables_for_deployment_flow_run
from prefect.server.database import PrefectDBInterface, provide_database_interface
from prefect.server.database.orm_models import Deployment
from prefect.server.events.clients import PrefectServerEventsClient
from prefect.server.events.schemas.events import Event
from prefect.server.models.events import flow_run_state_change_event
from prefect.server.schemas.actions import DeploymentFlowRunCreate, SizedParameters
from prefect.server.schemas.core import FlowRun
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

_NOT_OF_THE_ROW = {"created", "state", "estimated_run_time", "estimated_start_time_delta"}
_APART = timedelta(microseconds=1)  # between the due times of consecutive jobs


class NewJob(BaseModel):
    """A job to create, or to find where a job with its key exists."""

    model_config = ConfigDict(extra="forbid")
    parameters: SizedParameters
    """The flow's parameters; not checked here: the caller has checked them."""
    idempotency_key: str
    due: datetime | None = None
    """Its place in the queue; None for the end of the queue."""


class NewJobs(BaseModel):
    """Jobs of one deployment with the same name, tags and job variables."""

    model_config = ConfigDict(extra="forbid")
    jobs: Annotated[list[NewJob], Field(min_length=1, max_length=500)]
    name: str | None = None
    tags: list[str] = []
    job_variables: dict[str, Any] = {}


@router.post("/{id:uuid}/create_jobs")
async def create_jobs(
    id: UUID,
    asked: NewJobs,
    db: Annotated[PrefectDBInterface, Depends(provide_database_interface)],
) -> list[UUID]:
    """Create a flow run for each job, due in the order given, all or none. Returns their ids.

    Where a run with the key exists already, its id is returned.
    """
    # For update: on SQLite, a transaction that reads first must take the write lock at its start.
    async with db.session_context(begin_transaction=True, with_for_update=True) as session:
        deployment = await models.deployments.read_deployment(session, id)
        if deployment is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND, detail="Deployment not found")
        terms = DeploymentFlowRunCreate.model_validate({"job_variables": asked.job_variables})
        await validate_job_variables_for_deployment_flow_run(session, deployment, terms)
        runs = await _runs(session, deployment, asked)
        made = set(
            await models.deployments._insert_scheduled_flow_runs(  # pyright: ignore[reportPrivateUsage]
                session, [_row(run) for run in runs]
            )
        )
        found = await _by_key(db, session, [run for run in runs if run.id not in made])
        events = await _events(session, [run for run in runs if run.id in made])
    async with PrefectServerEventsClient() as client:
        for event in events:
            await client.emit(event)
    return [run.id if run.id in made else found[run.idempotency_key] for run in runs]


async def _runs(session: AsyncSession, deployment: Deployment, asked: NewJobs) -> list[FlowRun]:
    labels = await models.deployments.with_system_labels_for_deployment_flow_run(
        session=session, deployment=deployment, user_supplied_labels={}
    )
    now = datetime.now(UTC)
    runs: list[FlowRun] = []
    for place, job in enumerate(asked.jobs):
        due = job.due or now + place * _APART
        state = schemas.states.Scheduled(scheduled_time=due)  # pyright: ignore[reportArgumentType]  # validated into Prefect's own type
        run = FlowRun(
            flow_id=deployment.flow_id,
            deployment_id=deployment.id,
            deployment_version=deployment.version,
            parameters={**deployment.parameters, **job.parameters},
            idempotency_key=job.idempotency_key,
            tags=list({*deployment.tags, *asked.tags}),
            labels=labels,
            job_variables=asked.job_variables,
            infrastructure_document_id=deployment.infrastructure_document_id,
            work_queue_name=deployment.work_queue_name,
            work_queue_id=deployment.work_queue_id,
            state=state,
        )
        run.name = asked.name or run.name
        state.state_details.flow_run_id = run.id
        runs.append(run)
    return runs


def _row(run: FlowRun) -> dict[str, Any]:
    """A run as a row for Prefect's scheduler, with the fields set by its first state."""
    state = run.state
    assert state
    due = state.state_details.scheduled_time
    return {
        **run.model_dump_for_orm(exclude=_NOT_OF_THE_ROW, exclude_unset=True),
        "id": run.id,
        "name": run.name,
        "state": state.model_dump(),
        "state_type": state.type,
        "state_name": state.name,
        "state_timestamp": state.timestamp,
        "expected_start_time": due,
        "next_scheduled_start_time": due,
    }


async def _events(session: AsyncSession, runs: Sequence[FlowRun]) -> list[Event]:
    """The events of the runs' first state changes."""
    events: list[Event] = []
    for run in runs:
        # The variable keeps the flow in the session, which would otherwise read it anew for each.
        flow = await models.flows.read_flow(session, run.flow_id)
        assert flow and run.state
        events.append(
            await flow_run_state_change_event(
                session=session,
                occurred=run.state.timestamp,
                flow_run=run,  # pyright: ignore[reportArgumentType]  # reads what both have
                initial_state_id=None,
                initial_state=None,
                validated_state_id=run.state.id,
                validated_state=run.state,
            )
        )
    return events


async def _by_key(
    db: PrefectDBInterface, session: AsyncSession, runs: Sequence[FlowRun]
) -> dict[str | None, UUID]:
    """The ids of the existing runs with these runs' keys, by key."""
    if not runs:
        return {}
    there = await session.execute(
        sa.select(db.FlowRun.idempotency_key, db.FlowRun.id).where(
            db.FlowRun.flow_id == runs[0].flow_id,
            db.FlowRun.idempotency_key.in_([run.idempotency_key for run in runs]),
        )
    )
    return {key: id for key, id in there}
