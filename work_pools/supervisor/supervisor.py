"""The loops of a supervisor: sweep runs, report health, clean up. Events start a sweep early."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psutil
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Crashed, Paused

from tasks.contracts import HELD, HOLDS, INFRASTRUCTURE, Pool
from tasks.errors import EngineUnavailable, in_short
from tasks.prefect_api.drains import DRAIN_CHANGED
from tasks.settings import Settings
from tasks.storage.results.opening import open_results
from work_pools.listening import listen
from work_pools.supervisor.agents import Agents
from work_pools.supervisor.crashes import decision, is_of_infrastructure
from work_pools.supervisor.draining import Draining
from work_pools.supervisor.health import Checkup, checks_of
from work_pools.supervisor.infrastructure.instance import Found, Instance, Instances
from work_pools.supervisor.infrastructure.processes import find_worker, started
from work_pools.supervisor.losses import (
    GRACE,
    Observation,
    loss_elsewhere,
    loss_here,
    loss_of_unknown,
)
from work_pools.supervisor.reaper import Reaper
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import Runs, worker_of
from work_pools.supervisor.stopping import Stopper
from work_pools.supervisor.transient import is_transient, isolated
from work_pools.supervisor.watch import Watch
from work_pools.turns import Turns

_SWEEP = 2.0  # seconds between two sweeps without an event
_SOON = 0.5  # the same while an attempt has been without a living instance for a short time
_REAP = 5.0  # seconds between two cleanups
_HANGING = 3  # a worker hangs once it has been silent for so many times its timeout
_FAREWELL = 5.0  # seconds at the end for the server to answer: then this agent falls silent
_RETRY = 1.0  # seconds before a failed step or a broken subscription is retried
_HOLD = 10.0  # seconds in which what holds a run, by claiming it, has it Paused
_OWNER_FIRST = timedelta(seconds=10)  # in which the host of a crash, which knows more, settles it
# Events that start a sweep at once.
_WAKING = ["prefect.flow-run.Crashed", "prefect.flow-run.Cancelling", DRAIN_CHANGED]
_log = logging.getLogger(__name__)


class Supervisor:
    """Keeps the jobs of one pool alive from one host."""

    def __init__(
        self, client: PrefectClient, pool: Pool, host: str, worker: str, instances: Instances,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._worker = worker
        self._instances = instances
        self._settings = settings
        self._pool = pool
        results = open_results(settings)
        self._checkup = Checkup(checks_of(pool, instances, results, settings), settings)
        self._agents = Agents(client, pool, host, worker, settings)
        self._runs = Runs(client, pool, self._agents.clock)
        self._draining = Draining(client, host, worker)
        self._requeue = Requeue(self._runs, instances, results, settings)
        self._watch = Watch(self._runs, self._requeue, self._agents, worker, _SWEEP)
        self._stopper = Stopper(client, self._runs, instances, results, settings)
        self._reaper = Reaper(
            self._runs,
            self._requeue,
            instances,
            worker,
            results,
            settings.max_attempts,
            self._agents.clock,
        )
        self._wake = asyncio.Event()
        self._examine = asyncio.Event()
        self._reaping = Turns(_REAP, lambda: self._agents.hosts)
        self._here: set[UUID] = set()  # runs with an instance on this host
        self._worker_process: psutil.Process | None = None
        self._missed: dict[UUID, float] = {}  # when a run was first seen without a living instance
        self._alive = 0

    async def run(self) -> None:
        """Supervise until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._repeat(self._sweep, self._wake, lambda: self._pause))
                interval = self._agents.interval
                group.create_task(self._repeat(self._report, self._examine, lambda: interval))
                group.create_task(self._repeat(self._reap, asyncio.Event(), lambda: _REAP))
                group.create_task(
                    self._repeat(self._requeue.record_successors, self._requeue.made, lambda: _REAP)
                )
                group.create_task(listen(self._pool, _WAKING, self._on_event, _RETRY))
                group.create_task(self._watch_exits())
        finally:
            await self._stopper.close()
            try:
                await asyncio.wait_for(self._agents.deregister(), _FAREWELL)
            except Exception as error:  # noqa: BLE001  # the supervisor stops all the same
                _log.warning("could not deregister this agent: %s", in_short(error))

    @property
    def _pause(self) -> float:
        now = asyncio.get_running_loop().time()
        missed = (since for id, since in self._missed.items() if id in self._watch.near)
        hurry = any(now - since < _SWEEP + GRACE for since in missed)
        return _SOON if hurry else _SWEEP

    async def _repeat(
        self, step: Callable[[], Awaitable[None]], now: asyncio.Event, pause: Callable[[], float]
    ) -> None:
        """Repeat a step for ever: after `pause` seconds, or at once when `now` is set."""
        while True:
            now.clear()
            try:
                await step()
            except Exception as error:  # noqa: BLE001  # supervision must survive any error
                _log.warning("retrying: %s", in_short(error), exc_info=not is_transient(error))
                if isinstance(error, EngineUnavailable):
                    self._examine.set()
                elif is_transient(error):
                    # Who could not report, or could not start a job, is not judged by that time.
                    self._agents.forget()
                    self._missed.clear()
                await asyncio.sleep(_RETRY)
                continue
            try:
                await asyncio.wait_for(now.wait(), pause())
            except TimeoutError:
                continue

    async def _sweep(self) -> None:
        worker = await asyncio.to_thread(find_worker, self._worker, self._pool)
        since = None if worker is None else started(worker)
        if worker != self._worker_process:
            self._worker_process = worker
            self._watch.read_all_next()  # the last worker may have taken runs and not started them
        await self._draining.refresh()
        seen = await self._watch.read(self._here)
        # Listed after the runs were read: instances that exited meanwhile are still in this list.
        found, here = await self._find()
        if not seen.whole and found.keys() - self._here:
            self._wake.set()  # their runs have not been read
        self._here = set(found)
        # Only instances of runs that this server knows: processes may be jobs of another server.
        instances = (instance for run in seen.active for instance in found.get(run.id, ()))
        self._alive = sum(1 for instance in instances if instance.alive and not instance.sibling)
        ours = [run for run in seen.crashed if self._is_ours_to_settle(run, here)]
        if any(run.state and is_of_infrastructure(run.state) for run in ours):
            await self._report()  # pauses the intake before there are successors to take
        await self._requeue.settle(ours, found, self._report)
        left = {run.id for run in seen.active}
        if not seen.whole:
            left |= self._missed.keys() - self._watch.near
        self._missed = {id: t for id, t in self._missed.items() if id in left}
        for run in seen.active:
            if run.id not in self._stopper.busy:
                with isolated(run.id):
                    await self._supervise(run, list(found.get(run.id, ())), here, since)

    async def _find(self) -> tuple[Found, bool]:
        """The instances on this host, and whether they could be listed."""
        try:
            return await self._instances.find(), True
        except EngineUnavailable as error:
            _log.warning("%s", error)
            self._examine.set()
            return {}, False

    def _is_ours_to_settle(self, run: FlowRun, here: bool) -> bool:
        if run.id in self._stopper.busy:
            return False
        worker = worker_of(run)
        if worker in (None, self._worker):
            # Without an engine, a successor here would only use up an attempt. Supervisors of other
            # hosts settle the crash after _OWNER_FIRST.
            return here
        if not self._agents.is_online(worker) or run.state is None:
            return True
        return self._agents.clock.now() - run.state.timestamp > _OWNER_FIRST

    async def _supervise(
        self, run: FlowRun, instances: list[Instance], here: bool, worker_since: datetime | None
    ) -> None:
        """Cancel, time out or declare lost one active run, where that is due."""
        assert run.state is not None
        ahead = self._agents.clock.ahead
        # The flow's own instance first: on SIGTERM it stops the siblings that it has started.
        alive = sorted(
            (instance for instance in instances if instance.alive),
            key=lambda instance: instance.sibling,
        )
        ours = bool(instances) or worker_of(run) == self._worker
        if any(not instance.sibling for instance in alive):
            self._missed.pop(run.id, None)
            if run.state.type == StateType.CANCELLING:
                self._stopper.cancel(run, alive)
            elif self._draining.is_over(ahead):
                await self._move(run)
            else:
                await self._stopper.end_if_over_time(run, alive, ahead)
            return
        if ours and not here:
            return  # the engine is down: judged once it answers
        now = asyncio.get_running_loop().time()
        missed = now - self._missed.setdefault(run.id, now)
        if run.state.message == HOLDS:
            if missed > _HOLD:  # what held it was killed
                state = Paused(name=HELD, message=HOLDS, reschedule=True)
                await self._runs.set_state(run.id, state, force=True)
            return
        observation = Observation(
            state=run.state.type,
            missed=missed,
            instances=sum(1 for instance in instances if instance.exit is not None),
            alive=sum(1 for instance in alive if not instance.sibling),
            orphaned=worker_since is not None and worker_since - ahead > run.state.timestamp,
        )
        if ours:
            reason = loss_here(observation, self._settings)
        elif (worker := worker_of(run)) is None:
            alone = replace(observation, orphaned=observation.orphaned and self._agents.alone)
            reason = loss_of_unknown(alone, self._agents.all_workers_online, self._settings)
        else:
            silent = self._agents.is_silent(worker)
            reason = loss_elsewhere(observation, silent, self._settings)
        if reason is None:
            return
        await self._declare_lost(run, reason, alive)

    async def _move(self, run: FlowRun) -> None:
        """End an attempt that still runs on this drained host: the next one runs elsewhere."""
        assert self._draining.current is not None
        host = self._draining.current.host
        # First the label, by which the end of this attempt does not count as a crash.
        await self._runs.label_drained(run.id, host)
        state = Crashed(name="Drained", message=f"{INFRASTRUCTURE}{host} is drained")
        await self._runs.set_state(run.id, state)
        _log.info("%s: ended, for %s is drained", run.id, host)
        self._wake.set()

    async def _declare_lost(self, run: FlowRun, reason: str, left: list[Instance]) -> None:
        assert run.state is not None
        (history,) = await self._runs.histories([run])
        self._missed.pop(run.id, None)
        if not history:
            return  # its state has changed meanwhile
        decided = decision(history)
        if decided is not None and decided.type == StateType.CANCELLING:
            self._stopper.cancel(run, left)
        else:
            _log.warning("%s: %s", run.id, reason)
            await self._runs.set_state(run.id, Crashed(message=reason))
            self._wake.set()

    async def _reap(self) -> None:
        found, here = await self._find()
        if here:
            await self._reaper.reap(found, shared=self._reaping.take())

    async def _report(self) -> None:
        await self._kill_hanging_worker()
        failed = await self._checkup.failed()
        drained = self._draining.current is not None
        await self._agents.report(failed, self._alive, drained=drained)

    async def _kill_hanging_worker(self) -> None:
        """Kill this host's worker once it hangs, so that it can be restarted.

        Its jobs are not lost: they go on, or the supervisor restarts them.
        """
        worker = await asyncio.to_thread(find_worker, self._worker, self._pool)
        if worker is None or not self._agents.worker_hangs(_HANGING):
            return
        up = (datetime.now(UTC) - started(worker)).total_seconds()
        if up > _HANGING * self._settings.agent_timeout:  # not just started
            _log.warning("the worker %s has fallen silent: killing it", self._worker)
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()

    def _on_event(self, event: str | None) -> None:
        if event in (None, DRAIN_CHANGED):
            self._draining.read_next()
        self._watch.note_event()
        self._wake.set()

    async def _watch_exits(self) -> None:
        """Start a sweep when a container exits, and a health check when the engine stops."""
        while True:
            try:
                async for _ in self._instances.exits():
                    self._wake.set()
            except EngineUnavailable:
                self._examine.set()
            await asyncio.sleep(_RETRY)
