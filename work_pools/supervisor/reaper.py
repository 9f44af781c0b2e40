"""What dead attempts leave behind on this host: containers, and folders they staged in."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from tasks.contracts import requeue_key
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.infrastructure.instance import Found, Instance, Instances
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import Runs
from work_pools.supervisor.transient import apart

_READ = timedelta(seconds=5)  # in which its worker has read its exit code and its log
_TIDYING = timedelta(seconds=60)  # that an attempt which has its last word may take to end
_OUT = timedelta(seconds=2)
_log = logging.getLogger(__name__)


class Reaper:
    """Removes what the runs of one pool have left. Nothing of a run that it does not know."""

    def __init__(
        self, runs: Runs, requeue: Requeue, instances: Instances, worker: str, results: ResultsRoot,
        attempts: int,
    ) -> None:  # fmt: skip
        self._attempts = attempts
        self._worker = worker
        self._runs = runs
        self._requeue = requeue
        self._instances = instances
        self._results = results

    async def reap(self, found: Found, *, shared: bool) -> None:
        """Remove every instance whose run is over and, with `shared`, every such stage: the stages
        of all hosts stand in one place. Raises EngineUnavailable."""
        stages = set[tuple[UUID, UUID]]()
        if shared:
            stages = await asyncio.to_thread(self._results.staged)
        known = await self._runs.by_id({*found, *(attempt for _, attempt in stages)})
        now = datetime.now(UTC)
        for id, run in known.items():
            if run.state is None or not run.state.is_final():
                continue
            with apart(id):
                for instance in found.get(id, ()):
                    if self._is_over(run, instance, now):
                        name = run.state.name
                        _log.info("removing %s of %s, which is %s", instance.id[:12], id, name)
                        await self._instances.remove(instance)
        await self._remove_what_belongs_to_no_run(known, found, now)
        await self._remove_stages(stages, known, found, now)
        await self._remove_images(now)

    async def _remove_what_belongs_to_no_run(
        self, known: dict[UUID, FlowRun], found: Found, now: datetime
    ) -> None:
        """What our own worker made for runs that were deleted since."""
        strays = [instance for id in found.keys() - known.keys() for instance in found[id]]
        for instance in strays:
            if instance.worker == self._worker and now - instance.since > _TIDYING:
                with apart(instance.run):
                    if not await self._runs.exists(instance.run):
                        _log.info("removing %s: its run was deleted", instance.id[:12])
                        await self._instances.remove(instance)

    def _is_over(self, run: FlowRun, instance: Instance, now: datetime) -> bool:
        assert run.state is not None
        final = now - run.state.timestamp
        if instance.alive:
            # Of a run that was given up, it works for nothing; of another, it is about to end.
            beaten = run.state.type in (StateType.CRASHED, StateType.CANCELLED)
            return final > (_OUT if beaten else _TIDYING)
        if run.state.type == StateType.CRASHED and not self._requeue.is_settled(run):
            return False  # its exit code has not been read yet
        return final > _READ and now - instance.since > _READ

    async def _remove_images(self, now: datetime) -> None:
        """What was built for jobs that are over, and whose flows have not come to remove it."""
        built = await self._instances.built()
        first = await self._runs.by_id(built)
        keys = {requeue_key(job, n): job for job in first for n in range(2, self._attempts + 1)}
        later = await self._runs.by_key(keys)
        for job, run in first.items():
            attempts = [run, *(other for key, other in later.items() if keys[key] == job)]
            if all(self._has_ended(attempt, now) for attempt in attempts):
                _log.info("removing %s: its job is over", built[job])
                await self._instances.remove_image(built[job])

    def _has_ended(self, run: FlowRun, now: datetime) -> bool:
        if run.state is None or not run.state.is_final() or now - run.state.timestamp < _TIDYING:
            return False
        return run.state.type != StateType.CRASHED or self._requeue.is_settled(run)

    async def _remove_stages(
        self,
        stages: set[tuple[UUID, UUID]],
        known: dict[UUID, FlowRun],
        found: Found,
        now: datetime,
    ) -> None:
        for job, attempt in stages:
            run = known.get(attempt)
            if run is None or run.state is None or not run.state.is_final():
                continue
            here = any(instance.alive for instance in found.get(attempt, ()))
            # One on a host that cannot be reached loses its stage, and with it the race.
            if not here and now - run.state.timestamp > _READ:
                with apart(attempt):
                    await asyncio.to_thread(self._results.discard_stages, job, attempt)
