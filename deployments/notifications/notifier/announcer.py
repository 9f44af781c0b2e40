"""Emits the events `received` and final events of jobs, from outside of their flow runs."""

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
from tasks.runtime.events import JobEvent, JobReceived, about, known, send_events

_SWEEP = 10.0  # seconds between two searches for new jobs, where no event triggers one
_CHECK = 2.0  # seconds between two reads of the final events to emit
_GATHER = 2.0  # seconds from an event to the search: thousands may be submitted together
_STORED = 6.0  # seconds after which the server has stored an event: it does so every 5
_RESEND = 30.0  # seconds after which an event that is not stored is sent again
_MAX_EVENTS = 1000  # final events in one pass
_log = logging.getLogger(__name__)

_Emission = tuple[JobEvent, UUID, datetime]
"""An event, its flow run, and the time at which it occurred."""


class Announcer:
    """Sends each event until the server has stored it: a killed server loses events in its queue.

    An event that may still be in that queue is not sent twice: see `tasks.runtime.events.known`.
    """

    def __init__(self, client: PrefectClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._runs = Runs(client)
        self._window: Window | None = None
        self._began = asyncio.get_running_loop().time()
        self._sent: dict[UUID, float] = {}
        """Time of the last sending of a final event, by the id of the event."""
        self._unsure: float | None = self._began
        """Time since which `received` events may be sent already, at first by a former notifier."""
        self._checked_former = False
        self._new = asyncio.Event()
        self._ended = asyncio.Event()

    def wake(self) -> None:
        """Signal that the database has new final events."""
        self._ended.set()

    async def run(self) -> None:
        """Emit events until cancelled."""
        async with asyncio.TaskGroup() as group:
            new = self._new.set
            group.create_task(listen(["prefect.flow-run.Scheduled"], lambda _: new(), new))
            group.create_task(repeat(self._emit_received, self._new, _GATHER))
            group.create_task(repeat(self._emit_final, self._ended))

    async def _emit_received(self) -> float:
        now = asyncio.get_running_loop().time()
        if self._unsure is not None and now < self._unsure + _STORED:
            return self._unsure + _STORED - now
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
                received = [one for one in received if one[0].event_id not in has]
            try:
                await self._send(received)
            except Exception:
                self._unsure = now
                raise
        self._unsure = None
        for run in planned:
            self._window.forget(run.id)  # it is received when it is due
        await self._ledger.advance(Time.DUE.field, self._window.newest)
        return _SWEEP

    async def _received(self, run: FlowRun) -> _Emission:
        known = about(run, await self._runs.task(run))
        assert run.created is not None, "the server sets it"
        return JobReceived(**known, queue=run.work_queue_name or ""), run.id, run.created

    async def _emit_final(self) -> float:
        now = asyncio.get_running_loop().time()
        unannounced = {
            outcome.event.event_id: outcome
            for outcome in await self._ledger.unannounced(_MAX_EVENTS)
        }
        if not self._checked_former:
            # A former notifier may have sent these shortly before.
            self._checked_former = True
            self._sent = dict.fromkeys(unannounced, self._began - _RESEND + _STORED)
        age = {id: now - self._sent[id] for id in unannounced if id in self._sent}
        stored = await known(self._client, (id for id in age if age[id] > _STORED))
        await self._ledger.mark_announced(unannounced[id] for id in stored)
        due = {
            id: unannounced[id]
            for id in unannounced.keys() - stored
            if age.get(id, _RESEND) >= _RESEND
        }
        self._sent = {id: at for id, at in self._sent.items() if id in unannounced.keys() - stored}
        self._sent |= dict.fromkeys(due, now)
        in_order = sorted(due.values(), key=lambda outcome: outcome.recorded)
        try:
            refused = await self._send([(e.event, e.flow_run, e.recorded) for e in in_order])
        except (httpx.ConnectError, httpx.ConnectTimeout):
            for id in due:
                del self._sent[id]  # not arrived: sent again at once
            raise
        await self._ledger.mark_announced(due[id] for id in refused)
        return _CHECK

    async def _send(self, events: Sequence[_Emission]) -> list[UUID]:
        """Send events. Returns the ids of those that the server refuses for good."""
        try:
            await send_events(self._client, events)
        except PrefectHTTPStatusError as error:
            if is_transient(error):
                raise
            if len(events) > 1:
                # One event is refused: send each alone, so that it does not block the others.
                return [id for event in events for id in await self._send([event])]
            event, _, _ = events[0]
            reason = " ".join(error.response.text.split())[:300]
            _log.error("the server refuses %s of %s: %s", event.name_of_event, event.job, reason)
            return [event.event_id]
        return []


def _is_planned(run: FlowRun) -> bool:
    """Whether a run was planned by a schedule and is not due yet.

    It may never run: when the schedule changes, the server deletes it and plans another.
    """
    due = run.expected_start_time
    return run.auto_scheduled and due is not None and due > datetime.now(UTC)
