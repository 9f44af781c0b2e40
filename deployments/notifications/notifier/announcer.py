"""Tells of jobs by events: of each that is new, and of each that has ended."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events.filters import EventFilter, EventIDFilter
from prefect.exceptions import PrefectHTTPStatusError

from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import listen, repeat
from deployments.notifications.notifier.runs import Runs, Time, Window, is_of_a_job, open_window
from deployments.notifications.schema import JobOutcome
from deployments.transient import is_transient
from tasks.contracts import attempt_number
from tasks.runtime.events import JobEvent, JobReceived, about, tell

_SWEEP = 10.0  # seconds between two looks for new jobs, where no event asks for one
_CHECK = 2.0  # seconds between two looks at what is to be told
_GATHER = 2.0  # seconds after such an event: thousands may be submitted together
_KEPT = 6.0  # seconds after which the server has written down an event: it does so every 5
_AGAIN = 30.0  # seconds after which one that it has not written down is told again
_MOST = 1000
_PAGE = 50  # events in one answer of the API
_log = logging.getLogger(__name__)

_Told = tuple[JobEvent, UUID, datetime]


class Announcer:
    """Ends are told until the server is seen to have kept them: it loses what it has not written
    down yet when it is killed."""

    def __init__(self, client: PrefectClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._runs = Runs(client)
        self._window: Window | None = None
        self._said: dict[UUID, float] = {}
        """When the event of a job's end was last told."""
        self._new = asyncio.Event()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """There is an end to tell."""
        self._ended.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        async with asyncio.TaskGroup() as group:
            new = self._new.set
            group.create_task(listen(["prefect.flow-run.Scheduled"], lambda _: new(), new))
            group.create_task(repeat(self._tell_of_new, self._new, _GATHER))
            group.create_task(repeat(self._tell_of_ended, self._ended))

    async def _tell_of_new(self) -> float:
        if self._window is None:
            self._window = await open_window(self._client, self._ledger, Time.DUE)
        planned: list[FlowRun] = []
        async for page in self._window.unseen():
            jobs = [run for run in page if is_of_a_job(run)]
            planned += [run for run in jobs if _is_planned(run)]
            first = [run for run in jobs if attempt_number(run.labels) == 1 and run not in planned]
            await self._tell([await self._received(run) for run in first])
        for run in planned:
            self._window.forget(run.id)  # until it is due
        await self._ledger.advance(Time.DUE.field, self._window.newest)
        return _SWEEP

    async def _received(self, run: FlowRun) -> _Told:
        known = about(run, await self._runs.task(run))
        assert run.created is not None, "the server has it"
        return JobReceived(**known, queue=run.work_queue_name or ""), run.id, run.created

    async def _tell_of_ended(self) -> float:
        now = asyncio.get_running_loop().time()
        unannounced = await self._ledger.unannounced(_MOST)
        said = {e.job: now - self._said[e.job] for e in unannounced if e.job in self._said}
        kept = await self._kept([e for e in unannounced if said.get(e.job, 0.0) > _KEPT])
        await self._ledger.mark_announced(kept)
        due = [e for e in unannounced if e.job not in kept and said.get(e.job, _AGAIN) >= _AGAIN]
        refused = await self._tell([(e.event, e.flow_run, e.recorded) for e in due])
        await self._ledger.mark_announced(refused)
        left = {e.job for e in unannounced} - kept
        self._said = {job: at for job, at in self._said.items() if job in left}
        self._said |= {e.job: now for e in due}
        return _CHECK

    async def _kept(self, outcomes: Sequence[JobOutcome]) -> set[UUID]:
        """The jobs whose end the server has written down."""
        kept: set[UUID] = set()
        for start in range(0, len(outcomes), _PAGE):
            ids = {
                outcome.event.event_id: outcome.job for outcome in outcomes[start : start + _PAGE]
            }
            wanted = EventFilter(id=EventIDFilter(id=list(ids)))
            page = await self._client.read_events(wanted, _PAGE)
            kept |= {ids[event.id] for event in page.events}
        return kept

    async def _tell(self, events: Sequence[_Told]) -> list[UUID]:
        """Tell of events. Returns the jobs whose event the server will never take."""
        try:
            await tell(self._client, events)
        except PrefectHTTPStatusError as error:
            if is_transient(error):
                raise
            if len(events) > 1:
                # One of them is refused: the others are not to wait for it.
                return [job for event in events for job in await self._tell([event])]
            event, _, _ = events[0]
            reason = " ".join(error.response.text.split())[:300]
            _log.error("the server refuses %s of %s: %s", event.name_of_event, event.job, reason)
            return [event.job]
        return []


def _is_planned(run: FlowRun) -> bool:
    """Whether a schedule has planned a run that is not due yet.

    It may never be: the server deletes it, and plans another, when the schedule changes.
    """
    due = run.expected_start_time
    return run.auto_scheduled and due is not None and due > datetime.now(UTC)
