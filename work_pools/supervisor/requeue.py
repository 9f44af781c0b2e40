"""Crashed attempts: each gets one successor in `high`, or its last word."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Completed, Failed

from tasks.contracts import (
    REQUEUED_AS_LABEL,
    attempt_number,
    job_id,
    requeue_key,
)
from tasks.errors import EngineUnavailable
from tasks.settings import Settings
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.crashes import Crash, backoff, decision, judge, message_of
from work_pools.supervisor.infrastructure.instance import Exit, Found, Instances
from work_pools.supervisor.runs import Runs, Successor, stands_result
from work_pools.supervisor.transient import apart

_NOT_FOUND = 404
_REFUSED = (400, 409, 422)
_BATCH = 100  # crashes that are looked into together
_TRIES = 5  # before each is asked for alone, which tells what is wrong with it
_OVERLAP = timedelta(seconds=60)  # so far behind its end may a crash become visible
_LOOKBACK = timedelta(days=7)  # an older crash that no one settled is history
_EVERYTHING = 300.0  # seconds between two looks at all crashes there are
_Past = tuple[FlowRun, list[State]]  # all states of a run, oldest first
_log = logging.getLogger(__name__)


class Requeue:
    """Settles the crashes of one pool. Any number of supervisors may do so at once."""

    def __init__(
        self, runs: Runs, instances: Instances, results: ResultsRoot, settings: Settings
    ) -> None:
        self._runs = runs
        self._instances = instances
        self._results = results
        self._settings = settings
        self._settled: set[UUID] = set()
        self._successors: dict[UUID, UUID] = {}  # not noted at the crashed runs yet
        self._links: list[tuple[Successor, UUID]] = []  # not shown in the UI yet
        self._writing = asyncio.Lock()  # two writers at once make SQLite refuse one for seconds
        self.made = asyncio.Event()
        """There are successors to note."""
        self._watermark: datetime | None = None
        self._looked_at_everything = 0.0

    def is_settled(self, run: FlowRun) -> bool:
        """Whether a crashed run has its successor or its last word, as far as is known here."""
        return run.id in self._settled or REQUEUED_AS_LABEL in run.labels

    async def unsettled(self) -> list[FlowRun]:
        """Every crash that has neither successor nor last word, as far as is known here."""
        now = asyncio.get_running_loop().time()
        everything = self._watermark is None or now - self._looked_at_everything > _EVERYTHING
        since = datetime.now(UTC) - _LOOKBACK if everything else self._watermark
        crashed = await self._runs.crashed(since)
        if everything:
            self._looked_at_everything = now
            self._settled &= {run.id for run in crashed}
        unsettled = [run for run in crashed if not self.is_settled(run)]
        # What is not settled yet must be seen again, whatever comes in between.
        ends = [run.end_time for run in unsettled or crashed if run.end_time]
        if ends:
            self._watermark = (min if unsettled else max)(ends) - _OVERLAP
        return unsettled

    async def settle(self, crashed: Sequence[FlowRun], found: Found) -> None:
        """Settle crashes. `found`: what there is on this host, seen after they were read."""
        batches = [crashed[at : at + _BATCH] for at in range(0, len(crashed), _BATCH)]
        ahead: asyncio.Task[list[_Past]] | None = None
        async with self._writing:
            try:
                for batch, following in zip_longest(batches, batches[1:]):
                    past = await (ahead or self._histories(batch))
                    # Read while successors of the last are made.
                    ahead = asyncio.create_task(self._histories(following)) if following else None
                    await self._settle(past, found)
            finally:
                if ahead:
                    ahead.cancel()
                    await asyncio.gather(ahead, return_exceptions=True)

    async def note(self) -> None:
        """Note at crashed runs what took their place: after all that is urgent, one by one."""
        while self._successors:
            id, successor = next(iter(self._successors.items()))
            async with self._writing:
                await self._runs.mark(id, successor)
            self._successors.pop(id)
        while self._links:
            # Shown once or not at all: nobody else needs it.
            successor, id = self._links.pop(0)
            async with self._writing:
                await self._runs.link(successor, id)

    def _know(self, successors: dict[UUID, UUID]) -> None:
        self._settled |= successors.keys()
        self._successors |= successors
        self.made.set()

    async def _histories(self, crashed: Sequence[FlowRun]) -> list[_Past]:
        """Those that have no successor yet, and what each has gone through."""
        keys = {
            run.id: requeue_key(job_id(run.labels, run.id), attempt_number(run.labels) + 1)
            for run in crashed
        }
        made = await self._runs.by_key(keys.values())
        self._know({run.id: made[key].id for run in crashed if (key := keys[run.id]) in made})
        alone = [run for run in crashed if keys[run.id] not in made]
        histories = await self._runs.histories(run.id for run in alone)
        return list(zip(alone, histories, strict=True))

    async def _settle(self, crashed: Sequence[_Past], found: Found) -> None:
        successors: list[Successor] = []
        for run, history in crashed:
            if not history or history[-1].type != StateType.CRASHED:
                continue  # deleted, or revived, since it was read
            with apart(run.id):
                await self._fence(run.id, found)
                if (decided := decision(history)) is not None:
                    await self._restore(run, decided)
                elif isinstance(verdict := self._judge(run, history, found), Successor):
                    successors.append(verdict)
                else:
                    await self.give_up(run, verdict)
        await self._make(successors)

    async def _fence(self, run: UUID, found: Found) -> None:
        """Two attempts must not run at once, where that is in our hands."""
        for instance in found.get(run, ()):
            if instance.alive:
                try:
                    await self._instances.remove(instance)
                except EngineUnavailable as error:
                    # It publishes later than its successor, and loses, or earlier, and wins.
                    _log.warning("attempt %s may still run: %s", run, error)

    def _judge(self, run: FlowRun, history: list[State], found: Found) -> "Successor | str":
        attempt = attempt_number(run.labels) + 1
        job = job_id(run.labels, run.id)
        exits = [instance.exit for instance in found.get(run.id, ()) if instance.exit is not None]
        verdict = judge(Crash(message_of(history), exits[-1] if exits else Exit()))
        if not verdict.again:
            return verdict.reason
        if attempt > self._settings.max_attempts:
            return f"given up after {attempt - 1} attempts, the last: {verdict.reason}"
        if run.deployment_id is None:
            return f"{verdict.reason}; it cannot be tried again: its deployment was deleted"
        delay = backoff(job, attempt, self._settings.requeue_backoff)
        return Successor(run, attempt, verdict.reason, delay, self._settings.max_attempts)

    async def _make(self, successors: Sequence[Successor]) -> None:
        by_deployment: dict[UUID, list[Successor]] = defaultdict(list)
        for successor in successors:
            assert successor.of.deployment_id is not None
            by_deployment[successor.of.deployment_id].append(successor)
        for deployment, group in by_deployment.items():
            await self._make_some(deployment, group)

    async def _make_some(self, deployment: UUID, group: Sequence[Successor]) -> None:
        made: dict[str, FlowRun] = {}
        for _ in range(_TRIES):
            missing = [successor for successor in group if successor.key not in made]
            if not missing:
                break
            refused = False
            try:
                await self._runs.make(deployment, missing)
            except PrefectHTTPStatusError as error:
                if error.response.status_code not in (_NOT_FOUND, *_REFUSED):
                    raise
                refused = True  # for one of them, perhaps
            # Its answer is not to be relied on: where SQLite was locked it says 200 and FAILED, and
            # even what it says was CREATED may have been rolled back.
            made = await self._runs.by_key(successor.key for successor in group)
            if refused:
                break
        for successor in group:
            if successor.key in made:
                continue
            with apart(successor.of.id):
                if refusal := await self._make_alone(successor):
                    await self.give_up(
                        successor.of, f"{successor.reason}; it cannot be tried again: {refusal}"
                    )
        if len(made) < len(group):
            made = await self._runs.by_key(successor.key for successor in group)
        there = [(s, made[s.key].id) for s in group if s.key in made]
        await self._cancel_what_was_cancelled_meanwhile({s.of.id: id for s, id in there})
        told = {
            s.of.id: f"{s.reason}: tried again as attempt {s.attempt} of "
            f"{self._settings.max_attempts}, flow run {id}"
            + (f", in {s.delay:.0f} s" if s.delay else "")
            for s, id in there
        }
        self._know({s.of.id: id for s, id in there})
        self._links += there
        for id, line in told.items():
            _log.info("%s: %s", id, line)
        await self._runs.tell(told)

    async def _make_alone(self, successor: Successor) -> str | None:
        """Ask for one successor. Returns why the server will never make it; None where it did."""
        try:
            await self._runs.make_one(successor)
        except ObjectNotFound:
            return "its deployment was deleted"
        except PrefectHTTPStatusError as error:
            if error.response.status_code == _NOT_FOUND:
                return "its deployment was deleted"
            if error.response.status_code not in _REFUSED:
                raise
            return " ".join(error.response.text.split())[:300]
        return None

    async def _cancel_what_was_cancelled_meanwhile(self, made: dict[UUID, UUID]) -> None:
        before = await self._runs.by_id(made)
        for id, successor in made.items():
            if id in before and before[id].state_type in (
                StateType.CANCELLED,
                StateType.CANCELLING,
            ):
                await self._runs.set_state(successor, Cancelled(), force=True)

    async def give_up(self, run: FlowRun, reason: str) -> None:
        """The last word on a job: Failed, unless its result stands all the same."""
        if await asyncio.to_thread(stands_result, self._results, run):
            state: State[Any] = Completed(message=f"its result stands; after that, {reason}")
        else:
            state = Failed(message=reason)
        # Not settled for ever: a person may retry it in Prefect's UI, and it may crash once more.
        await self._runs.set_state(run.id, state, force=True)
        _log.warning("%s: %s: %s", run.id, state.name, reason)
        await self._runs.tell({run.id: reason})

    async def _restore(self, run: FlowRun, decided: State) -> None:
        """A word was spoken before the crash: it stands."""
        state = (
            Cancelled(message=decided.message)
            if decided.type == StateType.CANCELLING
            else State(
                type=decided.type, name=decided.name, message=decided.message, data=decided.data
            )
        )
        await self._runs.set_state(run.id, state, force=True)
        _log.info("%s: it was %s before it crashed", run.id, state.name)
