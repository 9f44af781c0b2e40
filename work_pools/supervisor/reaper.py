"""Removal of what attempts leave on this host: containers, stages and built images."""

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from tasks.contracts import requeue_key
from tasks.prefect_api.clock import ServerClock
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.infrastructure.instance import Found, Instance, Instances
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import Runs
from work_pools.supervisor.transient import isolated

_READ = timedelta(seconds=5)  # in which the worker reads a container's exit code and log
_TIDYING = timedelta(seconds=60)  # in which an attempt in a final state exits by itself
_OUT = timedelta(seconds=2)  # the same for a crashed or cancelled attempt
_MOVES = 10  # attempts at a job that a drain of their host has ended, which do not count
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reaper:
    """Removes what runs of one pool have left. It leaves the instances of unknown runs, unless its
    own worker created them and the run was deleted."""

    runs: Runs
    requeue: Requeue
    instances: Instances
    worker: str
    """This host's worker, by its name."""
    results: ResultsRoot
    attempts: int
    """The most attempts at a job."""
    clock: ServerClock
    """By which states are dated; instances are dated by this host's own."""

    async def reap(self, found: Found, *, shared: bool) -> None:
        """Remove every instance whose run is over and, with `shared`, every stage whose run is over
        (all hosts share one folder of stages). Raises EngineUnavailable."""
        stages = set[tuple[UUID, UUID]]()
        if shared:
            stages = await asyncio.to_thread(self.results.staged)
        known = await self.runs.by_id({*found, *(attempt for _, attempt in stages)})
        now = datetime.now(UTC)
        for id, run in known.items():
            if run.state is None or not run.state.is_final():
                continue
            with isolated(id):
                for instance in found.get(id, ()):
                    if self._is_over(run, instance, now):
                        name = run.state.name
                        _log.info("removing %s of %s, which is %s", instance.short, id, name)
                        await self.instances.remove(instance)
        await self._remove_strays(known, found, now)
        await self._remove_stages(stages, known, found)
        await self._remove_images()

    async def _remove_strays(self, known: dict[UUID, FlowRun], found: Found, now: datetime) -> None:
        """Remove the instances that our own worker made for runs deleted since."""
        strays = [instance for id in found.keys() - known.keys() for instance in found[id]]
        for instance in strays:
            if instance.worker == self.worker and now - instance.since > _TIDYING:
                with isolated(instance.run):
                    if not await self.runs.exists(instance.run):
                        _log.info("removing %s: its run was deleted", instance.short)
                        await self.instances.remove(instance)

    def _is_over(self, run: FlowRun, instance: Instance, now: datetime) -> bool:
        assert run.state is not None
        final = self.clock.now() - run.state.timestamp
        if instance.alive:
            # After a crash or cancellation its work is useless; otherwise it exits by itself soon.
            beaten = run.state.type in (StateType.CRASHED, StateType.CANCELLED)
            return final > (_OUT if beaten else _TIDYING)
        if run.state.type == StateType.CRASHED and not self.requeue.is_settled(run):
            return False  # its exit code is still needed
        return final > _READ and now - instance.since > _READ

    async def _remove_images(self) -> None:
        """Remove images built for jobs that are over, where the flow did not remove them."""
        built = await self.instances.built()
        first = await self.runs.by_id(built)
        most = self.attempts + _MOVES
        keys = {requeue_key(job, n): job for job in first for n in range(2, most + 1)}
        later = await self.runs.by_key(keys)
        for job, run in first.items():
            attempts = [run, *(other for key, other in later.items() if keys[key] == job)]
            if all(self._has_ended(attempt) for attempt in attempts):
                _log.info("removing %s: its job is over", built[job])
                await self.instances.remove_image(built[job])

    def _has_ended(self, run: FlowRun) -> bool:
        if (
            run.state is None
            or not run.state.is_final()
            or self.clock.now() - run.state.timestamp < _TIDYING
        ):
            return False
        return run.state.type != StateType.CRASHED or self.requeue.is_settled(run)

    async def _remove_stages(
        self,
        stages: set[tuple[UUID, UUID]],
        known: dict[UUID, FlowRun],
        found: Found,
    ) -> None:
        for job, attempt in stages:
            run = known.get(attempt)
            if run is None or run.state is None or not run.state.is_final():
                continue
            here = any(instance.alive for instance in found.get(attempt, ()))
            # An attempt that lives on an unreachable host loses its stage, and cannot publish.
            if not here and self.clock.now() - run.state.timestamp > _READ:
                with isolated(attempt):
                    await asyncio.to_thread(self.results.discard_stages, job, attempt)
