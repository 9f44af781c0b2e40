"""Attempts that are ended on purpose: cancelled, or over their time."""

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

_REMEMBER = 60.0  # seconds that a deployment's limit is not asked for again
_BEGINNING = 1.0  # seconds from Running in which a flow's own code may not run yet
_log = logging.getLogger(__name__)


def counted_from(
    state: State, instances: Sequence[Instance], start: timedelta, ahead: timedelta
) -> datetime:
    """When an attempt's time begins, by this host's clock.

    At Running. One that hangs before that has the time to start, `start`, on top of it, from when
    it had both an instance and a worker: an instance that was started ahead has waited before that.
    """
    entered = state.timestamp + ahead
    if state.type == StateType.RUNNING:
        return entered
    return max(entered, min(instance.since for instance in instances)) + start


class Stopper:
    """The attempts of this host that are being ended, each by a task of its own."""

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
        """The runs that are being ended now."""
        return set(self._tasks)

    def cancel(self, run: FlowRun, instances: list[Instance]) -> None:
        """Stop an attempt that is Cancelling, then say that it is Cancelled."""
        self._start(run.id, self._cancel(run, instances))

    async def end_if_over_time(
        self, run: FlowRun, instances: list[Instance], ahead: timedelta
    ) -> None:
        """Kill an attempt that has run longer than it may, and fail it.

        `ahead`: how far this host's clock is ahead of the server's.
        """
        assert run.state is not None
        limit = await self._limit(run)
        start = timedelta(seconds=self._settings.pending_limit)
        since = counted_from(run.state, instances, start, ahead)
        if (datetime.now(UTC) - since).total_seconds() > limit:
            self._start(run.id, self._fail(run, instances, limit))

    async def close(self) -> None:
        """Leave what is under way to the next supervisor."""
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
            except Exception as error:  # noqa: BLE001  # it is logged, and tried again at the next look
                _log.warning("%s is not ended yet: %s", run, in_short(error), exc_info=True)
            finally:
                del self._tasks[run]

        self._tasks[run] = asyncio.create_task(end())

    async def _cancel(self, run: FlowRun, instances: list[Instance]) -> None:
        if run.start_time is not None:
            # Until its own code runs, Prefect's engine calls SIGTERM a crash, and shows one.
            running_for = (datetime.now(UTC) - run.start_time).total_seconds()
            await asyncio.sleep(min(_BEGINNING, max(0.0, _BEGINNING - running_for)))
        for instance in instances:
            if run.start_time is None:
                await self._instances.remove(
                    instance
                )  # it has done nothing that could be tidied up
            else:
                await self._instances.stop(instance, self._settings.cancel_grace)
        await self._discard(run)
        if await self._runs.state_type(run.id) == StateType.COMPLETED:
            return  # it was first
        stands = await asyncio.to_thread(stands_result, self._results, run)
        # With force: the engine inside may have called its own end a crash.
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
        # First the word, then the deed: a death before it would count as a crash. And not by
        # SIGTERM, at which the engine would call it one itself.
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
        """Seconds that an attempt may run: its own word, its deployment's, or the setting."""
        own = (run.job_variables or {}).get("max_duration")
        if own is not None:
            return int(own)
        if run.deployment_id is None:
            return self._settings.max_duration
        now = asyncio.get_running_loop().time()
        asked, limit = self._limits.get(run.deployment_id, (-_REMEMBER, 0))
        if now - asked >= _REMEMBER:
            try:
                deployment = await self._client.read_deployment(run.deployment_id)
                variables = deployment.job_variables or {}
            except ObjectNotFound:
                variables = dict[str, Any]()  # deleted; its runs go on
            limit = int(variables.get("max_duration") or self._settings.max_duration)
            self._limits[run.deployment_id] = (now, limit)
        return limit
