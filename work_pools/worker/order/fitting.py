"""Decides which of the waiting runs a host has room for."""

from collections.abc import Collection, Sequence
from uuid import UUID

from prefect.client.schemas.responses import WorkerFlowRunResponse

from tasks.contracts import Resources

Admitted = list[tuple[WorkerFlowRunResponse, Resources]]
"""Runs, with what each asks for."""


def fitting(asked: Sequence[Resources], offer: Resources, taken: Sequence[Resources]) -> list[bool]:
    """Whether each of the runs that wait, in their order, may start on this host now.

    `taken`: what the jobs that run here ask for. A run that this host can never serve is left to
    others, and keeps nobody waiting. One that it can serve later holds its share: the runs behind
    it do not take the memory or GPUs that it waits for.
    """
    left = offer
    for each in taken:
        left = left.without(each)
    may: list[bool] = []
    for each in asked:
        if offer.lacks(each):
            may.append(False)
            continue
        needs = Resources(memory=each.memory, gpus=each.gpus)
        # Who asks for no memory takes none, also where more is promised than there is.
        short = (each.memory > 0 and each.memory > left.memory) or (
            each.gpus > 0 and each.gpus > left.gpus
        )
        may.append(not short)
        left = left.without(needs)
    return may


class Waiting:
    """Runs that wait, in the order in which they are served, of which a host takes some.

    `held`: runs that have a slot here, and may be among them. `taken`: what those ask for.
    """

    def __init__(
        self, offer: Resources, held: Collection[UUID], taken: Sequence[Resources]
    ) -> None:
        self._offer, self._held, self._taken = offer, held, taken
        self._runs: Admitted = []
        self._may: list[bool] = []

    def add(self, runs: Sequence[WorkerFlowRunResponse], asked: Sequence[Resources]) -> None:
        """Add the runs that are served next."""
        self._runs += zip(runs, asked, strict=True)
        self._may = fitting([each for _, each in self._runs], self._offer, self._taken)

    @property
    def new(self) -> int:
        """How many have no slot here yet."""
        return sum(run.flow_run.id not in self._held for run, _ in self._runs)

    @property
    def all_may_start(self) -> bool:
        """Whether the host has room for all."""
        return all(self._may)

    @property
    def admitted(self) -> Admitted:
        """Those for which the host has room."""
        return [each for each, may in zip(self._runs, self._may, strict=True) if may]

    @property
    def starting(self) -> Admitted:
        """Those for which the host has room, and that have no slot here yet."""
        return [each for each in self.admitted if each[0].flow_run.id not in self._held]
