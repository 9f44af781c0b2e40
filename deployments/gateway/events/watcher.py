"""The watcher: learns of the changes of all jobs, and writes them to the journal.

Prefect's websocket tells of a change within milliseconds, and may lose some. One query every few
seconds finds what it has lost, and what changed while the server or the gateway was away.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter

from deployments.connection import connect
from deployments.gateway.events.changes import Attempt, Moved
from deployments.gateway.events.known import KnownJobs
from deployments.gateway.events.streams import AWAY, BACK, Streams
from deployments.jobs.changes import JobChange
from deployments.jobs.queries.listing import read_task_names
from tasks.contracts import HELD, WAITS_FOR_JOBS, Pool
from tasks.errors import in_short
from tasks.prefect_api.clock import server_time
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.transient import is_transient
from tasks.runtime.events import JobProgress

_SWEEP = 5.0  # seconds between two queries
_RETRY = 1.0  # seconds after one that failed
_GATHER = 0.02  # seconds in which flow runs are gathered that are read together
_UNCOMMITTED = 0.1  # seconds until a flow run is read again that does not show its event yet
_GIVEN_UP = 50  # such reads, after which the next query has to find it
_ANSWER = 20.0  # seconds in which the server must answer
_OVERLAP = timedelta(seconds=15)  # by which a change may become visible after its own time
_LONGEST_GAP = timedelta(minutes=15)  # that is caught up with; clients read the list after longer
_LINGER = 60.0  # seconds without a stream after which the watcher stops
_FIRST = 10.0  # seconds that a new stream waits for the first query
_FAST = timedelta(seconds=3)  # by which `server_time` may be fast
_FLOW_RUN = "prefect.flow-run."
_WANTED = EventNameFilter(
    prefix=[_FLOW_RUN, JobProgress.name_of_event], exclude_name=[f"{_FLOW_RUN}heartbeat"]
)
_MOST_REMEMBERED = 20_000  # flow runs whose jobs are remembered
_NEVER = datetime.min.replace(tzinfo=UTC)
_OF_JOBS = WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
_BUSY = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING, StateType.PAUSED]
_QUIET = [WAITS_FOR_JOBS, HELD]  # names of states: these may be thousands, and stay as they are
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Watcher:
    """Follows the jobs of a server while there are streams."""

    def __init__(self, known: KnownJobs, streams: Streams) -> None:
        self._known = known
        self._streams = streams
        self._task: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._sweep_now = asyncio.Event()
        self._unread: dict[UUID, tuple[datetime, int]] = {}  # since when, and how often it was read
        self._read_now = asyncio.Event()
        self._attempts: dict[UUID, Attempt | None] = {}  # None: a flow run of something else
        self._tasks: Mapping[UUID, str] = {}
        self._offset = timedelta()  # of the server's clock
        self._is_away = False
        self._not_before: datetime | None = None  # older changes are no news

    @property
    def is_away(self) -> bool:
        """Whether the server does not answer."""
        return self._is_away

    async def start(self) -> None:
        """Watch, if nobody does yet, and wait until the jobs' states are known or the server is
        found to be away."""
        if self._task is None or self._task.done():
            self._looked.clear()
            self._task = asyncio.create_task(self._run())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._looked.wait(), _FIRST)

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def observe(self, client: PrefectClient, run: FlowRun) -> JobChange | None:
        """The job of a flow run that was just read, in its newest state. None where it is none."""
        attempt = await self._learn(client, run, is_news=False)
        return attempt and self._known.latest(attempt.job)

    def _now(self) -> datetime:
        """The time by the server's clock."""
        return datetime.now(UTC) + self._offset

    async def _run(self) -> None:
        """Watch until nobody listens."""
        while True:
            try:
                return await self._watch()
            except Exception as error:  # noqa: BLE001  # logged and retried: streams are open
                _log.warning("watching again after an error: %s", in_short(error), exc_info=True)
            self._tell(away=True)
            self._looked.set()
            await asyncio.sleep(_RETRY)

    async def _watch(self) -> None:
        self._known.open()
        until = self._known.journal.complete_until
        if until is None or datetime.now(UTC) - until > _LONGEST_GAP:
            self._known.renew()
        # Without the retries of Prefect's client: an outage is to be seen at once.
        async with connect(retries=0) as client, asyncio.TaskGroup() as group:
            others = [group.create_task(each(client)) for each in (self._listen, self._read)]
            await self._sweep_until_idle(client)
            for task in others:
                task.cancel()

    async def _sweep_until_idle(self, client: PrefectClient) -> None:
        started = asyncio.get_running_loop().time()
        while self._streams.idle_for < _LINGER or (
            asyncio.get_running_loop().time() - started < _LINGER
        ):
            self._sweep_now.clear()
            try:
                await self._sweep(client)
                self._tell(away=False)
                pause = _SWEEP
            except Exception as error:  # noqa: BLE001  # logged and retried: the loop must not end
                transient = is_transient(error) or isinstance(error, TimeoutError)
                _log.log(
                    logging.INFO if transient else logging.WARNING,
                    "retrying to read jobs: %s",
                    in_short(error),
                    exc_info=not transient,
                )
                self._tell(away=True)
                pause = _RETRY
            self._looked.set()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sweep_now.wait(), pause)

    def _tell(self, *, away: bool) -> None:
        if away != self._is_away:
            self._is_away = away
            self._streams.tell_all(AWAY if away else BACK)

    async def _sweep(self, client: PrefectClient) -> None:
        """Learn of all changes since the last sweep."""
        self._offset = await _in_time(server_time(client)) - _FAST - datetime.now(UTC)
        began, until = self._now(), self._known.journal.complete_until
        since = (until or began) - _OVERLAP
        self._not_before = self._not_before or since
        found = {run.id: run async for run in self._changed_since(client, since, began)}
        missing = [run for run in self._known.busy() if run not in found]
        found |= {run.id: run for run in await _by_id(client, missing)}
        for run in sorted(found.values(), key=_moved_at):
            # At the first sweep of all, what there is already is no news.
            await self._learn(client, run, is_news=until is not None and _is_news(run, since))
        self._known.forget([run for run in missing if run not in found])
        self._known.completed(began)

    async def _changed_since(
        self, client: PrefectClient, since: datetime, now: datetime
    ) -> AsyncGenerator[FlowRun]:
        """The flow runs that are busy, have ended or have become due since a moment."""
        wanted = {
            "operator": "or_",
            "state": {"type": {"any_": _BUSY}, "name": {"not_any_": _QUIET}},
            "end_time": {"after_": since},
            "expected_start_time": {"after_": since, "before_": now + _FAST},
        }
        start = 0
        while True:
            page = await _in_time(
                client.read_flow_runs(
                    work_pool_filter=_OF_JOBS,
                    flow_run_filter=FlowRunFilter.model_validate(wanted),
                    sort=FlowRunSort.ID_DESC,
                    limit=PAGE,
                    offset=start,
                )
            )
            for run in page:
                yield run
            if len(page) < PAGE:
                return
            start += PAGE - 10  # runs that drop out meanwhile shift the next page

    async def _listen(self, client: PrefectClient) -> None:
        """Learn of changes by the websocket, and let a query find what it may have lost."""
        wanted = EventFilter(event=_WANTED)
        await self._looked.wait()
        while True:
            try:
                async with get_events_subscriber(filter=wanted, reconnection_attempts=0) as events:
                    self._sweep_now.set()
                    async for event in events:
                        self._hear(event)
            except Exception as error:  # noqa: BLE001  # a websocket fails in many ways
                _log.info("reconnecting to the events of the server: %s", in_short(error))
            self._sweep_now.set()
            await asyncio.sleep(_RETRY)

    def _hear(self, event: Event) -> None:
        if event.event == JobProgress.name_of_event:
            with contextlib.suppress(ValueError):  # another program used the name of our event
                progress = JobProgress.model_validate(event.payload)
                self._known.progress(progress, event.occurred)
            return
        try:
            run = UUID(event.resource.id.removeprefix(_FLOW_RUN))
            type = StateType(event.resource.get("prefect.state-type"))
            at = datetime.fromisoformat(event.resource.get("prefect.state-timestamp") or "")
        except ValueError:
            return  # an event of another kind
        is_old = self._not_before is None or at < self._not_before
        if is_old or self._attempts.get(run, run) is None or self._known.has_seen(run, at):
            return
        attempt, moved = self._attempts.get(run), Moved.by_event(type, at)
        if attempt is not None and moved is not None and run not in self._unread:
            self._known.learn(attempt, moved, self._now())
        else:
            self._unread[run] = (at, 0)
            self._read_now.set()

    async def _read(self, client: PrefectClient) -> None:
        """Read the flow runs of which an event has told."""
        while True:
            await self._read_now.wait()
            self._read_now.clear()
            await asyncio.sleep(_GATHER)
            wanted, self._unread = self._unread, {}
            try:
                found = {run.id: run for run in await _by_id(client, wanted)}
                for id, (at, reads) in wanted.items():
                    run = found.get(id)
                    if run is not None:
                        await self._learn(client, run)
                    if (run is None or _moved_at(run) < at) and reads < _GIVEN_UP:
                        self._unread.setdefault(id, (at, reads + 1))
            except Exception as error:  # noqa: BLE001  # the next query finds what was not read
                _log.info("flow runs could not be read: %s", in_short(error))
                self._sweep_now.set()
                continue
            if self._unread:  # the server tells of a change before its answers show it
                await asyncio.sleep(_UNCOMMITTED)
                self._read_now.set()

    async def _learn(
        self, client: PrefectClient, run: FlowRun, *, is_news: bool = True
    ) -> Attempt | None:
        """Learn the state of a flow run. Returns None where it is no attempt at a job."""
        if run.id not in self._attempts:
            if run.flow_id not in self._tasks:
                self._tasks = await read_task_names(client)
            if len(self._attempts) >= _MOST_REMEMBERED:
                del self._attempts[next(iter(self._attempts))]
            self._attempts[run.id] = Attempt.of(run, self._tasks.get(run.flow_id, "unknown"))
        attempt, moved = self._attempts[run.id], Moved.of(run, self._now() + _FAST)
        if attempt is None or moved is None:
            return None
        self._known.learn(attempt, moved, self._now(), is_news=is_news)
        return attempt


async def _in_time(answer: Awaitable[_T]) -> _T:
    """The server's answer. Raises TimeoutError where it does not come."""
    return await asyncio.wait_for(answer, _ANSWER)


async def _by_id(client: PrefectClient, runs: Collection[UUID]) -> list[FlowRun]:
    """The flow runs with these ids, as far as they exist."""
    ids, found = list(runs), list[FlowRun]()
    for start in range(0, len(ids), PAGE):
        wanted = {"id": {"any_": ids[start : start + PAGE]}}
        found += await _in_time(
            client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=PAGE)
        )
    return found


def _moved_at(run: FlowRun) -> datetime:
    """When a flow run entered its state."""
    return run.state.timestamp if run.state else _NEVER


def _is_news(run: FlowRun, since: datetime) -> bool:
    """Whether a job has changed since a moment: its state, or that it is due now."""
    due = run.next_scheduled_start_time if run.state_type is StateType.SCHEDULED else None
    return max(_moved_at(run), due or _NEVER) > since
