"""Lets jobs start that wait for other jobs, once those are done; or ends them, once one failed."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import Event
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed

from deployments.jobs.queries.standings import DID_NOT_RUN, Standing, read_standings
from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import listen, repeat
from tasks.contracts import (
    AFTER_ENDED_LABEL,
    AFTER_LABEL,
    WAITS_FOR_JOBS,
    Pool,
    ids_in,
    job_id,
)
from tasks.prefect_api.pages import PAGE
from tasks.runtime.events import JobCompleted

_SWEEP = 10.0  # seconds between two looks at all jobs, where no event triggers one
_SHARE = 10  # times the duration of such a look that it is apart from the next one, at least
_SOON = 1.0  # seconds to the next look while a job's failure can still change
_GATHER = 0.2  # seconds from an event to the look
_WAITS = f"prefect.flow-run.{WAITS_FOR_JOBS}"
_ENDS = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled")]
_FLOW_RUN = "prefect.flow-run."
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Blocked:
    """A run that waits for jobs."""

    run: UUID
    completed: tuple[UUID, ...]
    """Jobs that must complete."""
    ended: tuple[UUID, ...]
    """Jobs that must end."""

    @property
    def jobs(self) -> tuple[UUID, ...]:
        """All of them."""
        return self.completed + self.ended


class Releaser:
    """Releases the runs that wait for jobs, in the order in which they were submitted.

    An event leads to a look at the runs that wait for its job alone; all are looked at now and
    then. What it knows is on the server: what a killed one has not released, the next one releases.
    The server resumes only a run that is Paused: none is released twice, and none that was
    cancelled.
    """

    def __init__(self, client: PrefectClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._wake = asyncio.Event()
        self._blocked: dict[UUID, _Blocked] = {}
        self._by_job: dict[UUID, set[UUID]] = {}  # runs, by the jobs that they wait for
        self._ended: set[UUID] = set()  # runs, by their events
        self._all_at = 0.0  # time of the next look at all
        self._took = 0.0  # seconds, the last one

    async def run(self) -> None:
        """Release jobs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen([*_ENDS, _WAITS], self._on_event, self._look_at_all))
            group.create_task(repeat(self.look, self._wake, _GATHER))

    def _on_event(self, event: Event) -> None:
        if event.event == _WAITS:
            soon = asyncio.get_running_loop().time() + min(_SWEEP, _SHARE * self._took)
            self._all_at = min(self._all_at, soon)
            self._wake.set()
        elif self._by_job:
            self._ended.add(UUID(event.resource.id.removeprefix(_FLOW_RUN)))
            self._wake.set()

    def _look_at_all(self) -> None:
        self._all_at = 0.0
        self._wake.set()

    async def look(self) -> float:
        """Release or end the runs whose turn it is. Returns the seconds to the next call."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if began >= self._all_at:
            self._all_at = float("inf")  # an event meanwhile brings it forward
            await self._read()
            open_ = await self._decide(self._blocked.values())
            self._took = clock() - began
            self._all_at = min(self._all_at, clock() + max(_SWEEP, _SHARE * self._took))
        else:
            ended, self._ended = self._ended, set()
            open_ = await self._decide(await self._waiting_for(ended))
            self._ended |= open_
        return _SOON if open_ else max(0.0, min(_SWEEP, self._all_at - clock()))

    async def _read(self) -> None:
        """Read all runs that wait for jobs, the oldest first."""
        state = {"type": {"any_": [StateType.PAUSED]}, "name": {"any_": [WAITS_FOR_JOBS]}}
        found: dict[UUID, FlowRun] = {}
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
                break
        self._blocked = {run.id: _blocked(run) for run in found.values()}
        by_job = defaultdict[UUID, set[UUID]](set)
        for each in self._blocked.values():
            for job in each.jobs:
                by_job[job].add(each.run)
        self._by_job = dict(by_job)

    async def _waiting_for(self, ended: Collection[UUID]) -> list[_Blocked]:
        """The runs that wait for the jobs of runs that have ended."""
        jobs = set(ended)
        later = [run for run in ended if run not in self._by_job]  # perhaps later attempts
        for start in range(0, len(later), PAGE):
            ids = FlowRunFilterId(any_=later[start : start + PAGE])
            runs = await self._client.read_flow_runs(
                flow_run_filter=FlowRunFilter(id=ids), limit=PAGE
            )
            jobs |= {job_id(run.labels, run.id) for run in runs}
        wanted = {run for job in jobs for run in self._by_job.get(job, ())}
        return [each for id, each in self._blocked.items() if id in wanted]

    async def _decide(self, some: Iterable[_Blocked]) -> set[UUID]:
        """Release or end runs. Returns the jobs whose failure is too recent to be final."""
        blocked = list(some)
        jobs = {job for each in blocked for job in each.jobs}
        standings = await read_standings(self._client, jobs)
        events = await self._ledger.final_events(jobs - standings.keys())
        deleted = {job for job, event in events.items() if isinstance(event, JobCompleted)}
        for each in blocked:
            reason = _reason_to_end(each, standings, deleted)
            if reason is not None:
                await self._end(each.run, reason)
            elif all(_is_over(job, standings) for job in each.jobs):
                await self._release(each.run)
            else:
                continue
            self._blocked.pop(each.run, None)
        return {job for job, standing in standings.items() if standing.is_unsettled}

    async def _release(self, run: UUID) -> None:
        """Let a run enter its queue, at its end."""
        try:
            await self._client.resume_flow_run(run)
        except ObjectNotFound:
            return  # deleted meanwhile
        _log.info("%s: the jobs that it waited for are done", run)

    async def _end(self, run: UUID, reason: str) -> None:
        """End a run that can never start."""
        try:
            now = await self._client.read_flow_run(run)
            if now.state_type is StateType.PAUSED and now.state_name == WAITS_FOR_JOBS:
                await self._client.set_flow_run_state(run, Failed(message=reason))
                _log.info("%s: %s", run, reason)
        except ObjectNotFound:
            return


def _blocked(run: FlowRun) -> _Blocked:
    """What a run waits for, by its labels."""
    try:
        completed, ended = (
            tuple(ids_in(run.labels.get(label))) for label in (AFTER_LABEL, AFTER_ENDED_LABEL)
        )
    except ValueError:
        _log.warning("%s: its labels name no jobs to wait for: it is released", run.id)
        return _Blocked(run.id, (), ())
    return _Blocked(run.id, completed, ended)


def _reason_to_end(
    blocked: _Blocked, standings: Mapping[UUID, Standing], completed: set[UUID]
) -> str | None:
    """Why a run can never start; None where it may.

    `completed`: jobs without a flow run that had completed before they were deleted.
    """
    for job in blocked.completed:
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
