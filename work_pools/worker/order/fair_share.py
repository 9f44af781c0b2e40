"""Fair share between the users whose jobs wait in `normal`, where a setting asks for it.

The next run of `normal` is one of the user whose jobs there have used the least slot time. The
queues keep their order, and so do the jobs of one user.

The server answers with the first 200 runs that wait. Where more wait, an index of the queue has the
runs of other users behind them: this takes a request or two for each poll.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import anyio.abc
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse

from tasks.contracts import Queue, user_of
from work_pools.worker.changed_client import ChangedClient
from work_pools.worker.mixin import WorkerMixin
from work_pools.worker.order.further import Scheduled, is_cut
from work_pools.worker.order.usage import Usage
from work_pools.worker.order.users_waiting import UsersWaiting, fair_order

_SPARE = 8  # runs that are picked beyond the free slots: some may have started, or be held
_TRIES = 3  # reads of what was picked


class FairClient(ChangedClient):
    """A client that finds the runs of `normal` in the order of fair share.

    `slots`: the runs that have a slot of the worker, and the number of its free slots. `is_cut`:
    whether more runs may wait than were found.
    """

    def __init__(
        self,
        client: PrefectClient,
        worker: str,
        usage: Usage,
        waiting: UsersWaiting,
        slots: Callable[[], tuple[set[UUID], int]],
        is_cut: Callable[[Scheduled], bool],
    ) -> None:
        super().__init__(client)
        self._worker = worker
        self._usage = usage
        self._waiting = waiting
        self._slots = slots
        self._is_cut = is_cut

    async def get_scheduled_flow_runs_for_work_pool(
        self,
        work_pool_name: str,
        work_queue_names: list[str] | None = None,
        scheduled_before: datetime | None = None,
    ) -> Scheduled:
        """See PrefectClient."""
        found = await self._client.get_scheduled_flow_runs_for_work_pool(
            work_pool_name, work_queue_names, scheduled_before
        )
        normal = [each for each in found if _is_normal(each)]
        if not normal:
            return found
        await self._usage.exchange(self._client, work_pool_name, self._worker)
        before = found[: found.index(normal[0])]
        if not (_is_normal(found[-1]) and self._is_cut(found)):
            after = found[len(before) + len(normal) :]
            return [*before, *self._in_order(normal), *after]
        self._waiting.begin_at(normal[0].flow_run)
        until = scheduled_before or datetime.now(UTC)
        await self._waiting.read(self._client, work_pool_name, until)
        # What follows keeps its order: it is where the queue is read on.
        first = await self._picked(normal)
        known = {each.flow_run.id for each in first}
        rest = [each for each in normal if each.flow_run.id not in known]
        # As many as the server has answered: the pool may have no more slots.
        return [*before, *first, *rest][: len(found)]

    def _in_order(self, runs: Scheduled) -> Scheduled:
        waiting: dict[str, list[tuple[datetime, UUID]]] = {}
        for each in runs:
            run = each.flow_run
            due = run.next_scheduled_start_time or datetime.min.replace(tzinfo=UTC)
            waiting.setdefault(user_of(run.tags) or "", []).append((due, run.id))
        by_id = {each.flow_run.id: each for each in runs}
        return [by_id[id] for id in fair_order(waiting, self._usage.of_all())]

    async def _picked(self, normal: Scheduled) -> Scheduled:
        """The runs that are to start next, as many as there are free slots."""
        held, free = self._slots()
        there = {each.flow_run.id: each for each in normal}
        picked: list[UUID] = []
        for _ in range(_TRIES):
            if self._waiting.users < 2:
                return []  # strict order
            picked = self._waiting.pick(free + _SPARE, self._usage.of_all(), held)
            if {*picked[:free]} <= there.keys():
                break
            missing = [id for id in picked if id not in there]
            scheduled = FlowRunFilter.model_validate(
                {"id": {"any_": missing}, "state": {"type": {"any_": ["SCHEDULED"]}}}
            )
            read = await self._client.read_flow_runs(flow_run_filter=scheduled)
            self._waiting.forget({*missing} - {run.id for run in read})
            for run in read:
                if self._waiting.put_back(run):
                    there[run.id] = WorkerFlowRunResponse(
                        work_pool_id=normal[0].work_pool_id,
                        work_queue_id=normal[0].work_queue_id,
                        flow_run=run,
                    )
        return [there[id] for id in picked[:free] if id in there]


class FairShare(WorkerMixin):
    """Lets any of Prefect's workers share `normal` between users.

    `fair_share`: seconds after which half of what a user has used counts. None: strict order.
    """

    def __init__(self, *args: Any, fair_share: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._usage = None if fair_share is None else Usage(fair_share)
        self._users_waiting = UsersWaiting(Queue.NORMAL)
        self._shares = False

    @property
    def client(self) -> PrefectClient:
        """See BaseWorker."""
        if self._usage is None or not self._shares:
            return super().client
        client = FairClient(
            super().client,
            self.name,
            self._usage,
            self._users_waiting,
            self._read_slots,
            lambda found: is_cut(self, found),
        )
        return cast(PrefectClient, client)

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker."""
        if self._usage is None:
            return await super().get_and_submit_flow_runs()
        self._usage.keep(self._read_slots()[0])
        self._shares = True
        try:
            taken = await super().get_and_submit_flow_runs()
        finally:
            self._shares = False
        for run in taken:
            if run.work_queue_name == Queue.NORMAL:
                self._usage.take(run.id, user_of(run.tags) or "")
        return taken

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        if self._usage is None:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        self._usage.start(flow_run.id)
        try:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        finally:
            self._usage.end(flow_run.id)

    def _read_slots(self) -> tuple[set[UUID], int]:
        borrowers = self.limiter.statistics().borrowers
        held = {run for run in borrowers if isinstance(run, UUID)}
        return held, int(self.limiter.available_tokens)


def _is_normal(each: WorkerFlowRunResponse) -> bool:
    return each.flow_run.work_queue_name == Queue.NORMAL
