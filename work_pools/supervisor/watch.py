"""Reading of runs: those of this host every time, the whole pool in turn with other hosts."""

import time
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from work_pools.supervisor.agents import Agents
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import ACTIVE, Runs, worker_of
from work_pools.turns import Turns

# Seconds between two reads of the whole pool while it has no run to look after, and between two
# reads of its crashes while no run has ended and no event has come.
_IDLE = 10.0


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
        self._ours: set[UUID] = set()  # runs of this pool among those with an instance here
        self._others: set[UUID] = set()  # runs of other pools or servers among them
        self._active: set[UUID] = set()  # as of the last read of the whole pool
        self._crashes_until: float | None = None  # how long no crash is expected
        self.near: set[UUID] = set()
        """Runs that are read every time: those of this host, and those whose host may be gone."""

    def read_all_next(self) -> None:
        """Make the next `read` read the whole pool."""
        self.note_event()
        self._turns.hasten()

    def note_event(self) -> None:
        """Note that a run of the pool may need to be looked after."""
        self._idle_since = None
        self._crashes_until = None

    async def read(self, here: AbstractSet[UUID]) -> Snapshot:
        """Read the runs to look at now. `here`: the runs with an instance on this host."""
        self._ours &= here
        self._others &= here
        here = here - self._others
        if not self._is_idle(here) and self._turns.take():
            self._idle_since = time.monotonic()  # an event meanwhile counts as one after the read
            seen = await self._read_pool()
            if seen.active or seen.crashed:
                self._idle_since = None
        else:
            found = (await self._runs.by_id(self.near | here)).values()
            self._tell_apart(here, found)
            crashed = [run for run in found if run.state_type == StateType.CRASHED]
            seen = Snapshot(
                [run for run in found if run.state_type in ACTIVE],
                [run for run in crashed if not self._requeue.is_settled(run)],
                whole=False,
            )
        self._ours |= here & {run.id for run in (*seen.active, *seen.crashed)}
        if unknown := here - self._ours - self._others:
            self._tell_apart(unknown, (await self._runs.by_id(unknown)).values())
        if any(run.id not in here for run in seen.active):
            await self._agents.refresh(self._agents.interval)  # needed to detect silent hosts
        self.near = {run.id for run in seen.active if run.id in here or self._is_near(run)}
        self.near |= {run.id for run in seen.crashed if worker_of(run) == self._worker}
        return seen

    async def _read_pool(self) -> Snapshot:
        """Read the active runs of the pool, and its crashes where there may be new ones."""
        active = await self._runs.active()
        ids = {run.id for run in active}
        ended, self._active = self._active - ids, ids
        now = time.monotonic()
        if not ended and self._crashes_until is not None and now < self._crashes_until:
            return Snapshot(active, [], whole=True)
        self._crashes_until = now + _IDLE  # an event meanwhile makes the next read another one
        try:
            crashed = await self._requeue.unsettled()
        except Exception:
            self._crashes_until = None
            raise
        if crashed:
            self._crashes_until = None
        have_crashed = {run.id for run in crashed}
        return Snapshot([run for run in active if run.id not in have_crashed], crashed, whole=True)

    def _tell_apart(self, here: AbstractSet[UUID], found: Iterable[FlowRun]) -> None:
        """Note which runs with an instance here are of this pool: those that the server found.

        The instances of a host are also those of other servers and pools.
        """
        self._ours |= here & {run.id for run in found}
        self._others |= here - self._ours

    def _is_idle(self, here: Collection[UUID]) -> bool:
        """Whether the whole pool had nothing to look after a short time ago, nor has this host."""
        recently = self._idle_since is not None and time.monotonic() - self._idle_since < _IDLE
        return recently and not here

    def _is_near(self, run: FlowRun) -> bool:
        worker = worker_of(run)
        return worker in (None, self._worker) or not self._agents.is_online(worker)
