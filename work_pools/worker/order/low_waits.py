"""A bound on how long runs in `low` wait for those in `normal`, where a setting asks for one."""

import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound

from tasks.contracts import Queue
from work_pools.worker.changed_client import ChangedClient
from work_pools.worker.mixin import WorkerMixin

_ONE_OF = 4  # starts: the others keep to the priorities, however many runs have waited too long
_LOOK = 5.0  # seconds to the next look, where none has


class Turns:
    """When a run of `low` may come before those of `normal`. `most`: how long one may wait."""

    def __init__(self, most: timedelta) -> None:
        self.most = most
        self._first: object = None  # the id of the run that was put first
        self._strict = 0  # starts that are left until the next one
        self._look = 0.0

    @property
    def is_now(self) -> bool:
        """Whether one may come first now."""
        return self._strict <= 0 and time.monotonic() >= self._look

    def none_waits(self) -> None:
        """No run has waited too long."""
        self._look = time.monotonic() + _LOOK

    def put_first(self, run: FlowRun) -> None:
        """A run was put first; whether it starts is not known yet."""
        self._first = run.id

    def started(self, runs: Collection[FlowRun]) -> None:
        """Runs were started."""
        if self._first in {run.id for run in runs}:
            self._strict = _ONE_OF
        self._strict -= len(runs)
        self._first = None


class PatientClient(ChangedClient):
    """A client that finds a run of `low` that has waited too long before those of `normal`."""

    def __init__(self, client: PrefectClient, turns: Turns) -> None:
        super().__init__(client)
        self._turns = turns

    async def get_scheduled_flow_runs_for_work_pool(
        self,
        work_pool_name: str,
        work_queue_names: list[str] | None = None,
        scheduled_before: datetime | None = None,
    ) -> list[WorkerFlowRunResponse]:
        """See PrefectClient."""
        ask = self._client.get_scheduled_flow_runs_for_work_pool
        found = await ask(work_pool_name, work_queue_names, scheduled_before)
        served = not work_queue_names or Queue.LOW in work_queue_names
        if not found or not served or not self._turns.is_now:
            return found
        now = scheduled_before or datetime.now(UTC)
        try:
            late = await ask(work_pool_name, [Queue.LOW], now - self._turns.most)
            urgent = await ask(work_pool_name, [Queue.HIGH], now) if late else []
        except ObjectNotFound:
            return found  # the pool has not our queues
        if not late:
            self._turns.none_waits()
            return found
        self._turns.put_first(late[0].flow_run)
        first = [*urgent, late[0]]
        known = {each.flow_run.id for each in first}
        return [*first, *(each for each in found if each.flow_run.id not in known)]


class LowWaits(WorkerMixin):
    """Lets any of Prefect's workers start a run of `low` that has waited for longer than
    `low_waits`, in seconds, before those of `normal`: one of four starts at most."""

    def __init__(self, *args: Any, low_waits: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._low = None if low_waits is None else Turns(timedelta(seconds=low_waits))
        self._taking = False

    @property
    def client(self) -> PrefectClient:
        """See BaseWorker."""
        if self._low is None or not self._taking:
            return super().client
        return cast(PrefectClient, PatientClient(super().client, self._low))

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """See BaseWorker."""
        self._taking = True
        try:
            taken = await super().get_and_submit_flow_runs()
        finally:
            self._taking = False
        if self._low is not None:
            self._low.started(taken)
        return taken
