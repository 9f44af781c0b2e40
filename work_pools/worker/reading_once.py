"""A worker that reads the deployment of a run once, and each flow once."""

from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import Flow
from prefect.client.schemas.responses import DeploymentResponse

from work_pools.worker.changed_client import ChangedClient
from work_pools.worker.mixin import WorkerMixin

# Prefect's worker submits each run in a task of its own, whose context is not that of others.
_read: ContextVar[DeploymentResponse | None] = ContextVar("read", default=None)


class ReadingOnce(WorkerMixin):
    """Makes any of Prefect's workers read what it needs of a run once.

    Prefect reads the deployment to see whether it exists, and again for its job variables; and for
    the flow's name, which never changes, the flow of each run. A request takes 10 ms of the time
    from a job's submission to its start.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._flows: dict[UUID, Flow] = {}

    @property
    def client(self) -> PrefectClient:
        """See BaseWorker."""
        return cast(PrefectClient, OnceClient(super().client, self._flows))


class OnceClient(ChangedClient):
    """A client that reads a deployment once in each context, and a flow once.

    `flows`: those that were read, by id.
    """

    def __init__(self, client: PrefectClient, flows: dict[UUID, Flow]) -> None:
        super().__init__(client)
        self._flows = flows

    async def read_deployment(self, deployment_id: UUID) -> DeploymentResponse:
        """See PrefectClient."""
        found = _read.get()
        if found is None or found.id != deployment_id:
            found = await self._client.read_deployment(deployment_id)
            _read.set(found)
        return found

    async def read_flow(self, flow_id: UUID) -> Flow:
        """See PrefectClient."""
        if flow_id not in self._flows:
            self._flows[flow_id] = await self._client.read_flow(flow_id)
        return self._flows[flow_id]
