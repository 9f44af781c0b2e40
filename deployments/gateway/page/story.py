"""Routes for what a job was asked to do, and for what has become of each attempt at it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from prefect.client.schemas.objects import FlowRun
from pydantic import BaseModel

from deployments.gateway.jobs import Client, Reader, find_visible
from deployments.gateway.schedules.kept import SCHEDULE_TAG
from deployments.jobs.attempts import attempts
from deployments.jobs.queries.listing import read_task_names
from tasks.contracts import (
    AFTER_ENDED_LABEL,
    AFTER_LABEL,
    GPUS_VARIABLE,
    HOST_LABELS_VARIABLE,
    KEPT_VARIABLE,
    USER_TAG,
    attempt_number,
    ids_in,
)

_MOST_STATES = 100  # of an attempt

router = APIRouter()


class Asked(BaseModel):
    """What a job was asked to do: the fields of the request that submits it once more."""

    task: str
    payload: dict[str, Any]
    results_directory: str
    queue: str
    name: str
    tags: list[str]
    max_duration: int | None
    memory: str | None
    expires: int | None
    gpus: int | None
    host_labels: list[str]
    after: list[UUID]
    """The jobs that it waits for, or has waited for."""
    after_ended: bool
    """Whether it was enough that they ended."""


class Change(BaseModel):
    """A change of an attempt's state."""

    at: datetime
    state: str
    """Prefect's name of the state: Scheduled, Pending, Running …"""
    reason: str
    """In one line; empty where there is none."""


class Attempt(BaseModel):
    """One attempt at a job."""

    attempt: int
    flow_run: UUID
    queue: str
    ran: float
    """Seconds."""
    changes: list[Change]
    """The oldest first."""


@router.get("/jobs/{job}/request")
async def request(caller: Reader, client: Client, job: UUID) -> Asked:
    """What a job was asked to do: its payload, directory, queue, name, tags, limits, and the jobs
    to wait for."""
    run = await find_visible(client, caller, job)
    tasks = await read_task_names(client)
    limits = run.job_variables or {}
    deployment = await client.read_deployment(run.deployment_id) if run.deployment_id else None
    given = {*run.tags} - {*(deployment.tags if deployment else ())}
    ended = _ids(run, AFTER_ENDED_LABEL)
    return Asked(
        task=tasks.get(run.flow_id, "unknown"),
        payload=run.parameters.get("payload") or {},
        results_directory=str(run.parameters["results_directory"]),
        queue=deployment.name if deployment else run.work_queue_name or "",
        name=run.name,
        tags=sorted(tag for tag in given if not tag.startswith((USER_TAG, SCHEDULE_TAG))),
        max_duration=limits.get("max_duration"),
        memory=limits.get("mem_limit"),
        expires=limits.get(KEPT_VARIABLE),
        gpus=limits.get(GPUS_VARIABLE),
        host_labels=limits.get(HOST_LABELS_VARIABLE) or [],
        # Those whose results it reads are named by its payload, too.
        after=ended or _ids(run, AFTER_LABEL),
        after_ended=bool(ended),
    )


def _ids(run: FlowRun, label: str) -> list[UUID]:
    """The ids in a label of a run; none where somebody has put something else there."""
    try:
        return ids_in(run.labels.get(label))
    except ValueError:
        return []


@router.get("/jobs/{job}/attempts")
async def story(caller: Reader, client: Client, job: UUID) -> list[Attempt]:
    """The attempts at a job, with each change of their states and its reason, the first first."""
    await find_visible(client, caller, job)
    told: list[Attempt] = []
    for run in await attempts(client, job):
        states = await client.read_flow_run_states(run.id)
        told.append(
            Attempt(
                attempt=attempt_number(run.labels),
                flow_run=run.id,
                queue=run.work_queue_name or "",
                ran=run.estimated_run_time.total_seconds(),
                changes=[
                    Change(
                        at=state.timestamp,
                        state=state.name or state.type.value.capitalize(),
                        reason=""
                        if state.is_completed()
                        else " ".join((state.message or "").split()),
                    )
                    for state in sorted(states, key=lambda state: state.timestamp)[-_MOST_STATES:]
                ],
            )
        )
    return told
