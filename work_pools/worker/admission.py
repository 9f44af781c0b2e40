"""A worker that leaves in the queue what its host is not to take, or has no room for."""

import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, ClassVar, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from tasks.contracts import Resources, resources_asked
from tasks.prefect_api.clock import ServerClock
from tasks.prefect_api.drains import drain_of, read_drains
from work_pools.worker.changed_client import ChangedClient
from work_pools.worker.mixin import WorkerMixin
from work_pools.worker.order.fitting import Waiting
from work_pools.worker.order.further import Further, Scheduled, is_cut

_CACHED_FOR = 60.0  # seconds between two reads of a deployment's job variables, or of the clock

Admit = Callable[[PrefectClient, str, Scheduled, datetime], Awaitable[Scheduled]]


class Admission(WorkerMixin):
    """Makes any of Prefect's workers leave runs to others: all while its host is drained, and those
    that ask for more than `offer`.

    Whether it is drained is read from the server each time that there is a run to take. So it is
    true at once, and after the host, its worker or the server was away.
    """

    shares_offer: ClassVar[bool] = True
    """Whether the jobs share what is offered, as on one machine; else each may have all of it."""

    def __init__(self, *args: Any, offer: Resources, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._drained = False
        self._clock = ServerClock()
        self._further = Further()
        self._measured = -_CACHED_FOR
        self._offer = offer
        self._asked: dict[UUID, Resources] = {}  # by the runs that were admitted
        self._variables: dict[UUID, tuple[float, Mapping[str, Any]]] = {}  # by deployment

    async def sync_with_backend(self) -> None:
        """See BaseWorker, which calls this at intervals."""
        await super().sync_with_backend()
        now = time.monotonic()
        if now - self._measured >= _CACHED_FOR:
            with suppress(httpx.HTTPError):  # the last measurement holds
                answer = await self.client.request("GET", "/health")
                self._clock.measure(answer.headers.get("date"))
                self._measured = now

    def asked_by(self, run: UUID) -> Resources:
        """What a run that this worker has taken asks for."""
        return self._asked.get(run, Resources())

    @property
    def client(self) -> PrefectClient:
        """See BaseWorker."""
        return cast(PrefectClient, AdmittingClient(super().client, self._clock, self._admit))

    async def _admit(
        self, client: PrefectClient, pool: str, found: Scheduled, until: datetime
    ) -> Scheduled:
        if not found:
            return found
        drained = drain_of(await read_drains(client), socket.gethostname(), self.name) is not None
        if drained != self._drained:
            self._drained = drained
            self._logger.info("drained: taking no run" if drained else "drained no longer")
        if drained:
            return []
        if not self.shares_offer:
            pairs = zip(found, await self._read_all_asked(client, found), strict=True)
            return [entry for entry, asked in pairs if not self._offer.lacks(asked)]
        # The slots that are taken: Prefect's worker gives each in the name of its run.
        held = {run for run in self.limiter.statistics().borrowers if isinstance(run, UUID)}
        self._asked = {run: each for run, each in self._asked.items() if run in held}
        waiting = Waiting(self._offer, held, list(self._asked.values()))
        waiting.add(found, await self._read_all_asked(client, found))
        # The server answers no more runs than the pool has slots.
        most = min(int(self.limiter.available_tokens), waiting.new)
        if not waiting.all_may_start and len(waiting.starting) < most and is_cut(self, found):
            async with aclosing(self._further.pages(client, pool, found, until)) as pages:
                async for page in pages:
                    asked = await self._read_all_asked(client, page.runs)
                    page.is_passed = all(self._offer.lacks(each) for each in asked)
                    waiting.add(page.runs, asked)
                    if len(waiting.starting) >= most:
                        break
            admitted = waiting.starting[:most]
        else:
            admitted = waiting.admitted
        for entry, asked in admitted:
            self._asked.setdefault(entry.flow_run.id, asked)
        return [entry for entry, _ in admitted]

    async def _read_all_asked(self, client: PrefectClient, runs: Scheduled) -> list[Resources]:
        return [await self._read_asked(client, entry.flow_run) for entry in runs]

    async def _read_asked(self, client: PrefectClient, run: FlowRun) -> Resources:
        usual: Mapping[str, Any] = {}
        if run.deployment_id is not None:
            read, usual = self._variables.get(run.deployment_id, (-_CACHED_FOR, usual))
            if time.monotonic() - read > _CACHED_FOR:
                try:
                    usual = (await client.read_deployment(run.deployment_id)).job_variables or {}
                except ObjectNotFound:
                    usual = {}  # deleted: the worker cancels the run
                self._variables[run.deployment_id] = (time.monotonic(), usual)
        return resources_asked([usual, run.job_variables or {}], run.parameters.get("payload"))


class AdmittingClient(ChangedClient):
    """A client that finds only those scheduled runs that `admit` leaves.

    Times are those of this host's clock; the server is asked by its own. Otherwise a host whose
    clock is behind would take a run late, and one whose clock is ahead before it is due.
    """

    def __init__(self, client: PrefectClient, clock: ServerClock, admit: Admit) -> None:
        super().__init__(client)
        self._clock = clock
        self._admit = admit

    async def get_scheduled_flow_runs_for_work_pool(
        self,
        work_pool_name: str,
        work_queue_names: list[str] | None = None,
        scheduled_before: datetime | None = None,
    ) -> Scheduled:
        """See PrefectClient."""
        if scheduled_before is not None:
            scheduled_before -= self._clock.ahead
        found = await self._client.get_scheduled_flow_runs_for_work_pool(
            work_pool_name, work_queue_names, scheduled_before
        )
        until = scheduled_before or datetime.now(UTC)
        return await self._admit(self._client, work_pool_name, found, until)
