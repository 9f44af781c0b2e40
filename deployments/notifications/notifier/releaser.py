"""Lets jobs start that wait for other jobs, once those are done; or ends them, once one failed."""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed

from deployments.jobs.queries.standings import DID_NOT_RUN, Standing, read_standings
from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import listen, repeat
from tasks.contracts import AFTER_ENDED_LABEL, AFTER_LABEL, WAITS_FOR_JOBS, Pool, ids_in
from tasks.prefect_api.pages import PAGE
from tasks.runtime.events import JobCompleted

_SWEEP = 10.0  # seconds between two passes, where no event triggers one
_SOON = 1.0  # the same while a job's failure can still change
_GATHER = 0.2  # seconds from an event to the pass
_MANY = 500  # waiting jobs from which on events are gathered for longer
_GATHER_MANY = 2.0
_WAKING = [
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", WAITS_FOR_JOBS)
]
_log = logging.getLogger(__name__)


class Releaser:
    """Reads all jobs that wait for others, and how those stand.

    It keeps nothing: what a killed one has not released, the next one releases. The server resumes
    only a run that is Paused, so none is released twice, and none that was cancelled.
    """

    def __init__(self, client: PrefectClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Release jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(_WAKING, lambda _: self._wake.set(), self._wake.set))
            group.create_task(repeat(self.look, self._wake, _GATHER))

    async def look(self) -> float:
        """Release or end the jobs whose turn it is. Returns the seconds to the next call."""
        waiting = await self._waiting()
        if not waiting:
            return _SWEEP
        needs = {run.id: _needs(run) for run in waiting}
        jobs = {job for completed, ended in needs.values() for job in (*completed, *ended)}
        standings = await read_standings(self._client, jobs)
        completed = await self._completed_and_deleted(jobs - standings.keys())
        pause = _SWEEP
        for run in waiting:
            must_complete, must_end = needs[run.id]
            reason = _reason_to_end([*must_complete], standings, completed)
            if reason is not None:
                await self._end(run, reason)
                pause = _SOON  # others may wait for it
            elif all(_is_over(job, standings) for job in (*must_complete, *must_end)):
                await self._release(run)
        if len(waiting) > _MANY:
            await asyncio.sleep(_GATHER_MANY)
        return _SOON if any(each.is_unsettled for each in standings.values()) else pause

    async def _waiting(self) -> list[FlowRun]:
        """All runs that wait for jobs, the oldest first."""
        found: dict[UUID, FlowRun] = {}
        state = {"type": {"any_": [StateType.PAUSED]}, "name": {"any_": [WAITS_FOR_JOBS]}}
        while True:
            page = await self._client.read_flow_runs(
                work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
                flow_run_filter=FlowRunFilter.model_validate({"state": state}),
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
                limit=PAGE,
                offset=len(found),
            )
            found |= {run.id: run for run in page}
            if len(page) < PAGE:
                return list(found.values())

    async def _completed_and_deleted(self, jobs: Iterable[UUID]) -> set[UUID]:
        """Those of the jobs without a flow run that had completed."""
        events = await self._ledger.final_events(jobs)
        return {job for job, event in events.items() if isinstance(event, JobCompleted)}

    async def _release(self, run: FlowRun) -> None:
        """Let a run enter its queue, at its end."""
        try:
            await self._client.resume_flow_run(run.id)
        except ObjectNotFound:
            return  # deleted meanwhile
        _log.info("%s: the jobs that it waited for are done", run.id)

    async def _end(self, run: FlowRun, reason: str) -> None:
        """End a run that can never start."""
        try:
            now = await self._client.read_flow_run(run.id)
            if now.state_type is StateType.PAUSED:
                await self._client.set_flow_run_state(run.id, Failed(message=reason))
        except ObjectNotFound:
            return
        _log.info("%s: %s", run.id, reason)


def _needs(run: FlowRun) -> tuple[list[UUID], list[UUID]]:
    """The jobs that must complete, and those that must end, before a run may start."""
    try:
        return ids_in(run.labels.get(AFTER_LABEL)), ids_in(run.labels.get(AFTER_ENDED_LABEL))
    except ValueError:
        _log.warning("%s: its labels name no jobs to wait for: it is released", run.id)
        return [], []


def _reason_to_end(
    jobs: Sequence[UUID], standings: Mapping[UUID, Standing], completed: set[UUID]
) -> str | None:
    """Why a run can never start whose jobs must complete; None where it may."""
    for job in jobs:
        standing = standings.get(job)
        if standing is None:
            if job not in completed:
                return f"{DID_NOT_RUN}job {job} was deleted"
        elif standing.outcome in ("failed", "cancelled"):
            return standing.blame
    return None


def _is_over(job: UUID, standings: Mapping[UUID, Standing]) -> bool:
    standing = standings.get(job)
    return standing is None or standing.outcome is not None
