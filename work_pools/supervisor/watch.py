"""Which runs a supervisor looks at: its host's each time, all of the pool in turn with others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from work_pools.supervisor.agents import Agents
from work_pools.supervisor.requeue import Requeue
from work_pools.supervisor.runs import ACTIVE, Runs, worker_of
from work_pools.turns import Turns


@dataclass(frozen=True)
class Seen:
    """Runs as the server had them at one moment."""

    active: Sequence[FlowRun]
    """Those that a worker holds."""
    crashed: Sequence[FlowRun]
    """Those without a successor or a last word."""
    whole: bool
    """Whether these are all of the pool."""


class Watch:
    """Reads the runs of one pool for one host."""

    def __init__(
        self, runs: Runs, requeue: Requeue, agents: Agents, worker: str, interval: float
    ) -> None:
        """`interval`: seconds between two looks at the whole pool by whichever host."""
        self._runs = runs
        self._requeue = requeue
        self._agents = agents
        self._worker = worker
        self._turns = Turns(interval, lambda: agents.hosts)
        self.near: set[UUID] = set()
        """Runs of this host, and those whose host may be gone: to be read each time."""

    def look_at_all(self) -> None:
        """Read the whole pool next."""
        self._turns.hasten()

    async def read(self, here: Collection[UUID]) -> Seen:
        """Read what is to be looked at now. `here`: the runs that this host has something of."""
        if self._turns.take():
            crashed = await self._requeue.unsettled()
            seen = Seen(await self._runs.active(), crashed, whole=True)
        else:
            found = (await self._runs.by_id(self.near.union(here))).values()
            crashed = [run for run in found if run.state_type == StateType.CRASHED]
            seen = Seen(
                [run for run in found if run.state_type in ACTIVE],
                [run for run in crashed if not self._requeue.is_settled(run)],
                whole=False,
            )
        if any(run.id not in here for run in seen.active):
            await self._agents.listen(self._agents.interval)  # or nobody can be called silent
        self.near = {run.id for run in seen.active if run.id in here or self._is_near(run)}
        self.near |= {run.id for run in seen.crashed if worker_of(run) == self._worker}
        return seen

    def _is_near(self, run: FlowRun) -> bool:
        worker = worker_of(run)
        return worker in (None, self._worker) or not self._agents.speaks(worker)
