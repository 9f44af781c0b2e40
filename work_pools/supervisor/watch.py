"""Reading of runs: those of this host every time, the whole pool in turn with other hosts."""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from work_pools.supervisor.agents import Agents
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import ACTIVE, Runs, worker_of
from work_pools.turns import Turns

_IDLE = 10.0  # seconds between two reads of the whole pool while it has no run to look after


@dataclass(frozen=True)
class Snapshot:
    """Runs as the server had them at one moment."""

    active: Sequence[FlowRun]
    """Runs that a worker has taken and that are not final."""
    crashed: Sequence[FlowRun]
    """Crashed runs without a next attempt or another final state."""
    whole: bool
    """Whether these are all such runs of the pool."""


class Watch:
    """Reads the runs of one pool for one host."""

    def __init__(
        self, runs: Runs, requeue: Requeue, agents: Agents, worker: str, interval: float
    ) -> None:
        """`interval`: seconds between two reads of the whole pool, by all hosts together."""
        self._runs = runs
        self._requeue = requeue
        self._agents = agents
        self._worker = worker
        self._turns = Turns(interval, lambda: agents.hosts)
        self._idle_since: float | None = None
        self.near: set[UUID] = set()
        """Runs that are read every time: those of this host, and those whose host may be gone."""

    def read_all_next(self) -> None:
        """Make the next `read` read the whole pool."""
        self._idle_since = None
        self._turns.hasten()

    def note_event(self) -> None:
        """Note that a run of the pool may need to be looked after."""
        self._idle_since = None

    async def read(self, here: Collection[UUID]) -> Snapshot:
        """Read the runs to look at now. `here`: the runs with an instance on this host."""
        if not self._is_idle(here) and self._turns.take():
            self._idle_since = time.monotonic()  # an event meanwhile counts as one after the read
            crashed = await self._requeue.unsettled()
            seen = Snapshot(await self._runs.active(), crashed, whole=True)
            if seen.active or seen.crashed:
                self._idle_since = None
        else:
            found = (await self._runs.by_id(self.near.union(here))).values()
            crashed = [run for run in found if run.state_type == StateType.CRASHED]
            seen = Snapshot(
                [run for run in found if run.state_type in ACTIVE],
                [run for run in crashed if not self._requeue.is_settled(run)],
                whole=False,
            )
        if any(run.id not in here for run in seen.active):
            await self._agents.refresh(self._agents.interval)  # needed to detect silent hosts
        self.near = {run.id for run in seen.active if run.id in here or self._is_near(run)}
        self.near |= {run.id for run in seen.crashed if worker_of(run) == self._worker}
        return seen

    def _is_idle(self, here: Collection[UUID]) -> bool:
        """Whether the whole pool had nothing to look after a short time ago, nor has this host."""
        recently = self._idle_since is not None and time.monotonic() - self._idle_since < _IDLE
        return recently and not here

    def _is_near(self, run: FlowRun) -> bool:
        worker = worker_of(run)
        return worker in (None, self._worker) or not self._agents.is_online(worker)
