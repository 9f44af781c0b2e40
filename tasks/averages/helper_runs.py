"""Helper runs of an average-files job: flow runs in the job's queue, cancelled at its end."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Cancelling, Scheduled

from tasks.averages.partition import Part
from tasks.averages.scheduler import Helper, Stage
from tasks.contracts import SumFiles
from tasks.prefect_api.pages import PAGE

DEPLOYMENT = "sum-files/parts"
_AT_ONCE = 20  # requests in flight
_STAGES = {
    StateType.SCHEDULED: Stage.WAITING,
    StateType.PENDING: Stage.WAITING,
    StateType.PAUSED: Stage.WAITING,
    StateType.RUNNING: Stage.RUNNING,
}


class FlowRuns:
    """The helper runs of one attempt."""

    def __init__(self, client: PrefectClient, run: FlowRun, wanted: SumFiles) -> None:
        """`run`: the attempt's own; `wanted`: the helpers' payload, the same but for the part."""
        self._client = client
        self._run = run
        self._wanted = wanted
        self._made: dict[Part, list[UUID]] = defaultdict(list)
        self._seen: dict[UUID, FlowRun] = {}

    async def start(self, parts: Sequence[Part]) -> None:
        """Create one more run for each part, in the job's queue and at the job's place there."""
        deployment = await self._client.read_deployment_by_name(DEPLOYMENT)
        for start in range(0, len(parts), _AT_ONCE):
            some = parts[start : start + _AT_ONCE]
            made = await asyncio.gather(*(self._make(deployment.id, part) for part in some))
            for part, run in zip(some, made, strict=True):
                self._made[part].append(run.id)
                self._seen[run.id] = run

    async def look(self) -> Mapping[Part, Sequence[Helper]]:
        """Observe all helpers; where the server does not answer, return the last observation."""
        try:
            await self._read()
            fractions = await self._fractions()
        except httpx.HTTPError as error:
            get_run_logger().warning("could not read the helper runs: %s", error)
            fractions = {}
        return {
            part: [_helper(self._seen[id], fractions.get(id, 0.0)) for id in ids]
            for part, ids in self._made.items()
        }

    async def withdraw(self, part: Part) -> None:
        """Cancel the runs of a part that have not started."""
        for id in self._made[part]:
            if _stage(self._seen[id]) is Stage.WAITING:
                await self._set(id, Cancelled(message="the job's own run does this part"))

    async def stop(self) -> None:
        """Cancel every run that has not ended."""
        try:
            await self._read()
            for id, run in self._seen.items():
                stage = _stage(run)
                if stage is Stage.WAITING:
                    await self._set(id, Cancelled(message="its job no longer needs it"))
                elif stage is Stage.RUNNING:
                    await self._set(id, Cancelling(message="its job no longer needs it"))
        except httpx.HTTPError as error:
            # Not serious: each helper checks that its part is wanted, and then ends.
            get_run_logger().warning("could not cancel the helper runs: %s", error)

    async def _make(self, deployment: UUID, part: Part) -> FlowRun:
        wanted = self._wanted.model_copy(update={"first": part.first, "end": part.end})
        run = self._run
        return await self._client.create_flow_run_from_deployment(
            deployment,
            name=f"{run.name} {part}",
            parameters={"part": wanted.model_dump(mode="json", exclude_unset=True)},
            state=Scheduled(scheduled_time=run.expected_start_time or datetime.now(UTC)),
            tags=run.tags,
            job_variables=run.job_variables,
            work_queue_name=run.work_queue_name,
            idempotency_key=f"part:{self._wanted.stage}:{part}:{len(self._made[part])}",
        )

    async def _read(self) -> None:
        ids = list(self._seen)
        for start in range(0, len(ids), PAGE):
            wanted = FlowRunFilterId(any_=ids[start : start + PAGE])
            page = await self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=wanted), limit=PAGE
            )
            self._seen |= {run.id: run for run in page}

    async def _fractions(self) -> dict[UUID, float]:
        running = [id for id, run in self._seen.items() if _stage(run) is Stage.RUNNING]
        if not running:
            return {}
        artifacts = await self._client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=running),
                type=ArtifactFilterType(any_=["progress"]),
            )
        )
        return {
            artifact.flow_run_id: float(str(artifact.data)) / 100
            for artifact in artifacts
            if artifact.flow_run_id is not None and artifact.data is not None
        }

    async def _set(self, id: UUID, state: State[Any]) -> None:
        with suppress(ObjectNotFound):  # the run was deleted
            await self._client.set_flow_run_state(id, state)


def _stage(run: FlowRun) -> Stage:
    return _STAGES.get(run.state_type or StateType.CRASHED, Stage.GONE)


def _helper(run: FlowRun, fraction: float) -> Helper:
    seconds = run.estimated_run_time.total_seconds()
    failed = run.state is not None and run.state.is_failed()
    reason = (run.state.message or "it failed") if failed and run.state else None
    return Helper(_stage(run), seconds, fraction, reason)
