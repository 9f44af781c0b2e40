"""Detects the final state of jobs and records it in the notification database."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events import Event

from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.loops import listen, repeat
from deployments.notifications.notifier.outcomes import is_superseded, outcome
from deployments.notifications.notifier.runs import Runs, Time, Window, open_window
from deployments.notifications.schema import JobEnd
from tasks.contracts import REQUEUED_AS_LABEL, job_id
from tasks.errors import in_short
from tasks.prefect_api.jobs import is_of_a_job
from tasks.prefect_api.transient import is_transient
from tasks.runtime.events import JobCompleted
from tasks.settings import Settings

_SWEEP = 10.0  # seconds between two passes, where no event triggers one
_GATHER = 0.2  # seconds from an event to the pass
_SETTLED = 3.0  # seconds after which Failed or Cancelled is final: a supervisor may correct it
_PUBLISHED = 60.0  # seconds for which the result of a Completed run may not be visible yet
_RARELY = 60.0  # maximum seconds between two checks of the same attempt
_LOOKBACK = timedelta(days=7)  # an older crash that no supervisor has handled is ignored
_WAKING = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled")]
_log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """An attempt in a final state, while it is open whether its job is in one too."""

    run: FlowRun
    since: float
    """Time at which the attempt was first seen in this state."""
    next: float = 0.0
    """Time of the next check."""

    @property
    def job(self) -> UUID:
        return job_id(self.run.labels, self.run.id)


class Detector:
    """Watches each attempt that ends until it decides its job or a later attempt replaces it.

    The watermark, from which a new process starts to read, stays before every watched attempt.
    """

    def __init__(
        self,
        client: PrefectClient,
        ledger: Ledger,
        settings: Settings,
        recorded: Callable[[], None],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings
        self._recorded = recorded
        self._runs = Runs(client)
        self._window: Window | None = None
        self._watched: dict[UUID, _Watched] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Detect and record final states until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(_WAKING, self._on_event, self.forget_what_was_seen))
            group.create_task(repeat(self.look, self._wake, _GATHER))

    def forget_what_was_seen(self) -> None:
        """Check all runs once more: one may have been retried and have ended without our notice."""
        if self._window is not None:
            self._window.forget_all()
        self._wake.set()

    def _on_event(self, event: Event) -> None:
        id = UUID(event.resource.id.removeprefix("prefect.flow-run."))
        if id in self._watched:
            self._watched[id].next = 0.0
        elif self._window is not None:
            self._window.forget(id)
        self._wake.set()

    async def look(self) -> float:
        """Check new and watched attempts. Returns the seconds to the next call."""
        if self._window is None:
            self._window = await open_window(self._client, self._ledger, Time.ENDED)
        async for page in self._window.unseen():
            await self._watch(page)
        await self._review(self._window)
        undecided = [Time.ENDED.of(watched.run) for watched in self._watched.values()]
        await self._ledger.advance(Time.ENDED.field, min([self._window.newest, *undecided]))
        soonest = min((watched.next for watched in self._watched.values()), default=_now() + _SWEEP)
        return min(_SWEEP, max(_GATHER, soonest - _now()))

    async def _watch(self, page: Sequence[FlowRun]) -> None:
        """Watch the attempts that have ended since the last pass, and decide them."""
        new = [
            _Watched(run, _now())
            for run in page
            if is_of_a_job(run) and run.id not in self._watched
        ]
        self._watched |= {watched.run.id: watched for watched in new}
        await self._decide(new)

    async def _review(self, window: Window) -> None:
        """Read the watched attempts that are due again, and decide them."""
        due = [watched for watched in self._watched.values() if watched.next <= _now()]
        found = await self._runs.by_id(watched.run.id for watched in due)
        for watched in due:
            run = found.get(watched.run.id)
            if run is None or run.state is None or not run.state.is_final():
                # Deleted, or put back in its queue: it may run and end again.
                del self._watched[watched.run.id]
                window.forget(watched.run.id)
                continue
            if run.state_type != watched.run.state_type:
                watched.since = _now()
            watched.run = run
        await self._decide([watched for watched in due if watched.run.id in self._watched])

    async def _decide(self, some: Sequence[_Watched]) -> None:
        """Record the final states among attempts that were just read; watch the others."""
        known = await self._ledger.final_events(watched.job for watched in some)
        open_: list[_Watched] = []
        for watched in some:
            if watched.job not in known or await self._is_retried(watched.run, known[watched.job]):
                open_.append(watched)
            else:
                del self._watched[watched.run.id]
        attempts = await self._runs.attempts(watched.run for watched in open_)
        revisions = {job: event.revision + 1 for job, event in known.items()}
        judged = await asyncio.gather(
            *(self._judge(w, attempts[w.job], revisions.get(w.job, 1)) for w in open_)
        )
        decided = sorted((one for one in judged if one is not None), key=lambda one: one[0].ended)
        if not decided:
            return
        for event in await self._ledger.record(decided):
            _log.info("%s: %s", event.job, event.outcome)
        self._recorded()
        for _, run in decided:
            del self._watched[run]

    async def _is_retried(self, run: FlowRun, former: JobEnd) -> bool:
        """Whether Retry in Prefect's UI has put a run in a queue after the final state of its job.

        A completed job stays completed: its result is published.
        """
        if isinstance(former, JobCompleted) or run.state is None:
            return False
        later = run.state.timestamp > former.ended
        return later and await self._runs.is_queued_since(run.id, former.ended)

    async def _judge(
        self, watched: _Watched, attempts: Sequence[FlowRun], revision: int
    ) -> tuple[JobEnd, UUID] | None:
        """The final event of a job and the attempt that decided it.

        None where this attempt does not decide the job, or it is too early to tell.
        """
        run, age = watched.run, _now() - watched.since
        watched.next = _now() + min(_RARELY, max(_SETTLED, age / 4))
        if run.state_type != StateType.COMPLETED:
            if is_superseded(run, attempts) or REQUEUED_AS_LABEL in run.labels:
                del self._watched[run.id]
                return None
            if run.state_type == StateType.CRASHED:
                # Its supervisor will start the next attempt, or set Failed.
                if run.end_time and datetime.now(UTC) - run.end_time > _LOOKBACK:
                    del self._watched[run.id]
                return None
            if age < _SETTLED:
                return None
        try:
            task = await self._runs.task(run)
            early = age < _PUBLISHED
            event = await outcome(self._settings, task, run, attempts, revision, early=early)
        except Exception as error:
            if is_transient(error):
                raise
            # Checked again later: one job must not block the others.
            _log.warning(
                "%s: cannot tell the final state yet: %s", run.id, in_short(error), exc_info=True
            )
            return None
        return None if event is None else (event, run.id)


def _now() -> float:
    return asyncio.get_running_loop().time()
