"""Tells of jobs by events: of each that is new, and of each that has ended."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import PrefectHTTPStatusError

from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import listen, repeat
from deployments.notifications.notifier.runs import Runs, Time, Window, open_window
from tasks.contracts import attempt_number
from tasks.prefect_api.jobs import is_of_a_job
from tasks.prefect_api.transient import is_transient
from tasks.runtime.events import JobEvent, JobReceived, about, known, tell

_SWEEP = 10.0  # seconds between two looks for new jobs, where no event asks for one
_CHECK = 2.0  # seconds between two looks at what is to be told
_GATHER = 2.0  # seconds after such an event: thousands may be submitted together
_KEPT = 6.0  # seconds after which the server has written down an event: it does so every 5
_AGAIN = 30.0  # seconds after which one that it has not written down is told again
_MOST = 1000
_log = logging.getLogger(__name__)

_Told = tuple[JobEvent, UUID, datetime]


class Announcer:
    """Ends are told until the server is seen to have kept them: it loses what it has not written
    down yet when it is killed.

    Nothing is sent twice that the server may still have in its queue: see
    `tasks.runtime.events.known`.
    """

    def __init__(self, client: PrefectClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._runs = Runs(client)
        self._window: Window | None = None
        self._began = asyncio.get_running_loop().time()
        self._said: dict[UUID, float] = {}
        """When the event of an end was last told, by its id."""
        self._unsure: float | None = self._began
        """Since when it is not known which new jobs were told: by who was here before, at first."""
        self._looked = False
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
        now = asyncio.get_running_loop().time()
        if self._unsure is not None and now < self._unsure + _KEPT:
            return self._unsure + _KEPT - now
        if self._window is None:
            self._window = await open_window(self._client, self._ledger, Time.DUE)
        planned: list[FlowRun] = []
        async for page in self._window.unseen():
            jobs = [run for run in page if is_of_a_job(run)]
            planned += [run for run in jobs if _is_planned(run)]
            first = [run for run in jobs if attempt_number(run.labels) == 1 and run not in planned]
            received = [await self._received(run) for run in first]
            if self._unsure is not None:
                has = await known(self._client, (event.event_id for event, _, _ in received))
                received = [told for told in received if told[0].event_id not in has]
            try:
                await self._tell(received)
            except Exception:
                self._unsure = now
                raise
        self._unsure = None
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
        unannounced = {
            outcome.event.event_id: outcome for outcome in await self._ledger.unannounced(_MOST)
        }
        if not self._looked:
            # Told before, perhaps, by who was here before.
            self._looked = True
            self._said = dict.fromkeys(unannounced, self._began - _AGAIN + _KEPT)
        age = {id: now - self._said[id] for id in unannounced if id in self._said}
        kept = await known(self._client, (id for id in age if age[id] > _KEPT))
        await self._ledger.mark_announced(unannounced[id] for id in kept)
        due = {
            id: unannounced[id] for id in unannounced.keys() - kept if age.get(id, _AGAIN) >= _AGAIN
        }
        self._said = {id: at for id, at in self._said.items() if id in unannounced.keys() - kept}
        self._said |= dict.fromkeys(due, now)
        in_order = sorted(due.values(), key=lambda outcome: outcome.recorded)
        try:
            refused = await self._tell([(e.event, e.flow_run, e.recorded) for e in in_order])
        except (httpx.ConnectError, httpx.ConnectTimeout):
            for id in due:
                del self._said[id]  # they have not arrived
            raise
        await self._ledger.mark_announced(due[id] for id in refused)
        return _CHECK

    async def _tell(self, events: Sequence[_Told]) -> list[UUID]:
        """Tell of events. Returns the ids of those that the server will never take."""
        try:
            await tell(self._client, events)
        except PrefectHTTPStatusError as error:
            if is_transient(error):
                raise
            if len(events) > 1:
                # One of them is refused: the others are not to wait for it.
                return [id for event in events for id in await self._tell([event])]
            event, _, _ = events[0]
            reason = " ".join(error.response.text.split())[:300]
            _log.error("the server refuses %s of %s: %s", event.name_of_event, event.job, reason)
            return [event.event_id]
        return []


def _is_planned(run: FlowRun) -> bool:
    """Whether a schedule has planned a run that is not due yet.

    It may never be: the server deletes it, and plans another, when the schedule changes.
    """
    due = run.expected_start_time
    return run.auto_scheduled and due is not None and due > datetime.now(UTC)
