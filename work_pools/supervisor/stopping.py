"""Stopping of attempts that are cancelled or over their time limit."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed, Failed

from tasks.contracts import job_id
from tasks.errors import in_short
from tasks.settings import Settings
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.infrastructure.instance import Instance, Instances
from work_pools.supervisor.runs import Runs, stands_result

_CACHED_FOR = 60.0  # seconds between two reads of a deployment's limit
_BEGINNING = 1.0  # seconds from Running in which a flow's own code may not run yet
_log = logging.getLogger(__name__)


def counted_from(
    state: State, instances: Sequence[Instance], start: timedelta, ahead: timedelta
) -> datetime:
    """When an attempt's time limit begins to count, by this host's clock.

    `ahead`: how far this host's clock is ahead of the server's. The time counts from Running. For a
    Pending attempt it counts from when the attempt had both a worker and an instance (a standby
    instance is older), plus `start`, the time that it has to start.
    """
    entered = state.timestamp + ahead
    if state.type == StateType.RUNNING:
        return entered
    return max(entered, min(instance.since for instance in instances)) + start


class Stopper:
    """Stops attempts of this host, each in its own asyncio task."""

    def __init__(
        self, client: PrefectClient, runs: Runs, instances: Instances, results: ResultsRoot,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._client = client
        self._runs = runs
        self._instances = instances
        self._results = results
        self._settings = settings
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._limits: dict[UUID, tuple[float, int]] = {}  # by deployment: when asked, seconds

    @property
    def busy(self) -> set[UUID]:
        """The runs that are being stopped now."""
        return set(self._tasks)

    def cancel(self, run: FlowRun, instances: list[Instance]) -> None:
        """Stop an attempt that is Cancelling, then set it to Cancelled."""
        self._start(run.id, self._cancel(run, instances))

    async def end_if_over_time(
        self, run: FlowRun, instances: list[Instance], ahead: timedelta
    ) -> None:
        """Kill an attempt that is over its time limit, and set it to Failed.

        `ahead`: how far this host's clock is ahead of the server's.
        """
        assert run.state is not None
        limit = await self._limit(run)
        start = timedelta(seconds=self._settings.pending_limit)
        since = counted_from(run.state, instances, start, ahead)
        if (datetime.now(UTC) - since).total_seconds() > limit:
            self._start(run.id, self._fail(run, instances, limit))

    async def close(self) -> None:
        """Cancel all stops under way; the next supervisor does them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _start(self, run: UUID, work: Coroutine[Any, Any, None]) -> None:
        if run in self._tasks:
            work.close()
            return

        async def end() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001  # logged, and retried at the next sweep
                _log.warning("could not stop %s yet: %s", run, in_short(error), exc_info=True)
            finally:
                del self._tasks[run]

        self._tasks[run] = asyncio.create_task(end())

    async def _cancel(self, run: FlowRun, instances: list[Instance]) -> None:
        if run.start_time is not None:
            # Before the flow's code runs, Prefect's engine would log a SIGTERM as a crash.
            running_for = (datetime.now(UTC) - run.start_time).total_seconds()
            await asyncio.sleep(min(_BEGINNING, max(0.0, _BEGINNING - running_for)))
        for instance in instances:
            if run.start_time is None:
                await self._instances.remove(instance)  # not started: it has nothing to clean up
            else:
                await self._instances.stop(instance, self._settings.cancel_grace)
        for instance in instances:
            if instance.sibling:  # a flow that took too long to end has left it
                await self._instances.remove(instance)
        await self._discard(run)
        if await self._runs.state_type(run.id) == StateType.COMPLETED:
            return  # it completed first
        stands = await asyncio.to_thread(stands_result, self._results, run)
        # With force: the engine in the container may have set Crashed.
        state = Cancelled(
            message="cancelled; its result was published before that, and stands"
            if stands
            else "cancelled"
        )
        await self._runs.set_state(run.id, state, force=True)
        _log.info("%s: %s", run.id, state.message)

    async def _fail(self, run: FlowRun, instances: list[Instance], limit: int) -> None:
        if await self._runs.state_type(run.id) not in (StateType.RUNNING, StateType.PENDING):
            return
        message = (
            f"time limit: it ran longer than its {limit} s; make the job smaller, or raise the "
            "job variable max_duration"
        )
        # Set the state before the kill: a death before it would count as a crash. And no SIGTERM,
        # at which the engine in the container would set Crashed itself.
        await self._runs.set_state(run.id, Failed(message=message))
        for instance in instances:
            await self._instances.remove(instance)
        await self._discard(run)
        if await asyncio.to_thread(stands_result, self._results, run):
            message = f"its result stands; after that, {message}"
            await self._runs.set_state(run.id, Completed(message=message), force=True)
        _log.info("%s: %s", run.id, message)

    async def _discard(self, run: FlowRun) -> None:
        job = job_id(run.labels, run.id)
        await asyncio.to_thread(self._results.discard_stages, job, run.id)

    async def _limit(self, run: FlowRun) -> int:
        """Seconds an attempt may run: by its job variables, its deployment, or the setting."""
        own = (run.job_variables or {}).get("max_duration")
        if own is not None:
            return int(own)
        if run.deployment_id is None:
            return self._settings.max_duration
        now = asyncio.get_running_loop().time()
        asked, limit = self._limits.get(run.deployment_id, (-_CACHED_FOR, 0))
        if now - asked >= _CACHED_FOR:
            try:
                deployment = await self._client.read_deployment(run.deployment_id)
                variables = deployment.job_variables or {}
            except ObjectNotFound:
                variables = dict[str, Any]()  # deleted; its runs go on
            limit = int(variables.get("max_duration") or self._settings.max_duration)
            self._limits[run.deployment_id] = (now, limit)
        return limit
