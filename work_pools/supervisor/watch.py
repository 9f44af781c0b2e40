"""Reading of runs: those of this host every time, the whole pool in turn with other hosts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from work_pools.supervisor.agents import Agents
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import ACTIVE, Runs, worker_of
from work_pools.turns import Turns


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
        self.near: set[UUID] = set()
        """Runs that are read every time: those of this host, and those whose host may be gone."""

    def read_all_next(self) -> None:
        """Make the next `read` read the whole pool."""
        self._turns.hasten()

    async def read(self, here: Collection[UUID]) -> Snapshot:
        """Read the runs to look at now. `here`: the runs with an instance on this host."""
        if self._turns.take():
            crashed = await self._requeue.unsettled()
            seen = Snapshot(await self._runs.active(), crashed, whole=True)
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

    def _is_near(self, run: FlowRun) -> bool:
        worker = worker_of(run)
        return worker in (None, self._worker) or not self._agents.is_online(worker)
