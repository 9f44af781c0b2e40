"""A worker that takes no run while its host is drained."""

import socket
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.responses import WorkerFlowRunResponse

from tasks.prefect_api.drains import drain_of, read_drains
from work_pools.worker.mixin import WorkerMixin

Scheduled = list[WorkerFlowRunResponse]
Admit = Callable[[PrefectClient, Scheduled], Awaitable[Scheduled]]


class Admission(WorkerMixin):
    """Makes any of Prefect's workers leave in the queue what this host is not to take.

    Whether it is drained is read from the server each time that there is a run to take. So it is
    true at once, and after the host, its worker or the server was away.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drained = False

    @property
    def client(self) -> PrefectClient:
        """See BaseWorker."""
        return cast(PrefectClient, AdmittingClient(super().client, self._admit))

    async def _admit(self, client: PrefectClient, found: Scheduled) -> Scheduled:
        if not found:
            return found
        drained = drain_of(await read_drains(client), socket.gethostname(), self.name) is not None
        if drained != self._drained:
            self._drained = drained
            self._logger.info("drained: taking no run" if drained else "drained no longer")
        return [] if drained else found


class AdmittingClient:
    """A client that finds only those scheduled runs that `admit` leaves."""

    def __init__(self, client: PrefectClient, admit: Admit) -> None:
        self._client = client
        self._admit = admit

    def __getattr__(self, name: str) -> Any:
        """Everything else is the client's own."""
        return getattr(self._client, name)

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
        return await self._admit(self._client, found)
