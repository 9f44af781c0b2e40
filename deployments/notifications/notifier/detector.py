"""Finds the jobs that have ended, and writes the end of each into the books."""

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

_SWEEP = 2.0  # seconds between two looks, where no event asks for one
_GATHER = 0.2  # seconds after such an event
_SETTLED = 3.0  # seconds after which Failed or Cancelled is believed: a supervisor may correct it
_PUBLISHED = 60.0  # seconds that a result may be out of sight where its job is called completed
_RARELY = 60.0  # seconds, at most, between two looks at the same attempt
_LOOKBACK = timedelta(days=7)  # an older crash that no supervisor has settled is history
_WAKING = [f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled")]
_log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """An attempt that has ended, while it is not clear yet whether its job has."""

    run: FlowRun
    since: float
    """When it was first seen in this state."""
    next: float = 0.0
    """When it is looked at again."""

    @property
    def job(self) -> UUID:
        return job_id(self.run.labels, self.run.id)


class Detector:
    """Each attempt that ends is watched until it is the end of its job, or another one takes over.

    Only then the watermark, from which a new process starts to read, passes it.
    """

    def __init__(
        self, client: PrefectClient, ledger: Ledger, settings: Settings, wrote: Callable[[], None]
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings
        self._wrote = wrote
        self._runs = Runs(client)
        self._window: Window | None = None
        self._watched: dict[UUID, _Watched] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look, and look again, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(listen(_WAKING, self._heard, self.forget_what_was_seen))
            group.create_task(repeat(self.look, self._wake, _GATHER))

    def forget_what_was_seen(self) -> None:
        """Look at each run again: what was not heard may be that one was retried, and has ended."""
        if self._window is not None:
            self._window.forget_all()
        self._wake.set()

    def _heard(self, event: Event) -> None:
        id = UUID(event.resource.id.removeprefix("prefect.flow-run."))
        if id in self._watched:
            self._watched[id].next = 0.0
        elif self._window is not None:
            self._window.forget(id)
        self._wake.set()

    async def look(self) -> float:
        """One look at what is new. Returns the seconds to the next."""
        if self._window is None:
            self._window = await open_window(self._client, self._ledger, Time.ENDED)
        async for page in self._window.unseen():
            await self._take_in(page)
        await self._review(self._window)
        undecided = [Time.ENDED.of(watched.run) for watched in self._watched.values()]
        await self._ledger.advance(Time.ENDED.field, min([self._window.newest, *undecided]))
        soonest = min((watched.next for watched in self._watched.values()), default=_now() + _SWEEP)
        return min(_SWEEP, max(_GATHER, soonest - _now()))

    async def _take_in(self, page: Sequence[FlowRun]) -> None:
        """Attempts that have ended since the last look."""
        new = [
            _Watched(run, _now())
            for run in page
            if is_of_a_job(run) and run.id not in self._watched
        ]
        self._watched |= {watched.run.id: watched for watched in new}
        await self._decide(new)

    async def _review(self, window: Window) -> None:
        """Attempts of which it was not clear yet whether they are the end of their job."""
        due = [watched for watched in self._watched.values() if watched.next <= _now()]
        found = await self._runs.by_id(watched.run.id for watched in due)
        for watched in due:
            run = found.get(watched.run.id)
            if run is None or run.state is None or not run.state.is_final():
                # Deleted; or put back in its queue, out of which it may end again.
                del self._watched[watched.run.id]
                window.forget(watched.run.id)
                continue
            if run.state_type != watched.run.state_type:
                watched.since = _now()
            watched.run = run
        await self._decide([watched for watched in due if watched.run.id in self._watched])

    async def _decide(self, some: Sequence[_Watched]) -> None:
        """Write down the ends among attempts that were just read; watch the others."""
        known = await self._ledger.ends(watched.job for watched in some)
        open_: list[_Watched] = []
        for watched in some:
            if watched.job not in known or await self._ends_again(watched.run, known[watched.job]):
                open_.append(watched)
            else:
                del self._watched[watched.run.id]
        attempts = await self._runs.attempts(watched.run for watched in open_)
        revisions = {job: end.revision + 1 for job, end in known.items()}
        judged = await asyncio.gather(
            *(self._judge(w, attempts[w.job], revisions.get(w.job, 1)) for w in open_)
        )
        ends = sorted((end for end in judged if end is not None), key=lambda end: end[0].ended)
        if not ends:
            return
        for ended in await self._ledger.record(ends):
            _log.info("%s has %s", ended.job, ended.outcome)
        self._wrote()
        for _, run in ends:
            del self._watched[run]

    async def _ends_again(self, run: FlowRun, former: JobEnd) -> bool:
        """Whether an attempt may end its job a second time: it was put in a queue after the first
        end, by Retry in Prefect's UI. What has completed stays so: its result stands."""
        if isinstance(former, JobCompleted) or run.state is None:
            return False
        later = run.state.timestamp > former.ended
        return later and await self._runs.is_queued_since(run.id, former.ended)

    async def _judge(
        self, watched: _Watched, attempts: Sequence[FlowRun], revision: int
    ) -> tuple[JobEnd, UUID] | None:
        """A job's end, and the attempt that decided it; None if it is not this one, or not yet."""
        run, age = watched.run, _now() - watched.since
        watched.next = _now() + min(_RARELY, max(_SETTLED, age / 4))
        if run.state_type != StateType.COMPLETED:
            if is_superseded(run, attempts) or REQUEUED_AS_LABEL in run.labels:
                del self._watched[run.id]
                return None
            if run.state_type == StateType.CRASHED:
                # Its supervisor will try it again, or give it up.
                if run.end_time and datetime.now(UTC) - run.end_time > _LOOKBACK:
                    del self._watched[run.id]
                return None
            if age < _SETTLED:
                return None
        try:
            task = await self._runs.task(run)
            waits = age < _PUBLISHED
            end = await outcome(self._settings, task, run, attempts, revision, waits=waits)
        except Exception as error:
            if is_transient(error):
                raise
            # Looked at again; the others must not suffer.
            _log.warning("%s: its end is not clear: %s", run.id, in_short(error), exc_info=True)
            return None
        return None if end is None else (end, run.id)


def _now() -> float:
    return asyncio.get_running_loop().time()
