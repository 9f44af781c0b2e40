"""Handling of crashed attempts: each gets one next attempt in `high`, or its final state."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Completed, Failed

from tasks.contracts import (
    DRAINED_LABEL,
    REQUEUED_AS_LABEL,
    attempt_number,
    job_id,
    moves,
    requeue_key,
)
from tasks.errors import EngineUnavailable
from tasks.settings import Settings
from tasks.storage.results.interface import ResultsRoot
from work_pools.supervisor.crashes import Crash, backoff, decision, judge, message_of
from work_pools.supervisor.infrastructure.instance import Exit, Found, Instances
from work_pools.supervisor.runs import Runs, Successor, stands_result
from work_pools.supervisor.transient import isolated

_NOT_FOUND = 404
_REFUSED = (400, 409, 422)
_BATCH = 100  # crashes that are read and judged together
_TRIES = 5  # bulk requests before each run is requested alone, which shows what is wrong with it
_OVERLAP = timedelta(seconds=60)  # delay with which a crash may become visible on the server
_LOOKBACK = timedelta(days=7)  # older crashes are ignored
_EVERYTHING = 300.0  # seconds between two reads of all crashes
Examine = Callable[[], Awaitable[None]]
"""Checks the health of this host."""
_Past = tuple[FlowRun, list[State]]  # a run and its states: see Runs.histories
_log = logging.getLogger(__name__)


class Requeue:
    """Settles the crashes of one pool. Any number of supervisors may do so at the same time.

    A crash is settled once its run has a successor (the next attempt) or a final state other than
    Crashed.
    """

    def __init__(
        self, runs: Runs, instances: Instances, results: ResultsRoot, settings: Settings
    ) -> None:
        self._runs = runs
        self._instances = instances
        self._results = results
        self._settings = settings
        self._settled: set[UUID] = set()
        self._successors: dict[UUID, UUID] = {}  # to be written to the crashed runs' labels
        self._links: list[tuple[Successor, UUID]] = []  # to be shown in the UI
        self._writing = asyncio.Lock()  # of two writers SQLite would refuse one for seconds
        self.made = asyncio.Event()
        """Set when there are successors to record."""
        self._watermark: datetime | None = None
        self._looked_at_everything = 0.0

    def is_settled(self, run: FlowRun) -> bool:
        """Whether a crashed run is settled, as far as this host knows."""
        return run.id in self._settled or REQUEUED_AS_LABEL in run.labels

    async def unsettled(self) -> list[FlowRun]:
        """Every crash that is not settled, as far as this host knows."""
        now = asyncio.get_running_loop().time()
        everything = self._watermark is None or now - self._looked_at_everything > _EVERYTHING
        since = datetime.now(UTC) - _LOOKBACK if everything else self._watermark
        crashed = await self._runs.crashed(since)
        if everything:
            self._looked_at_everything = now
            self._settled &= {run.id for run in crashed}
        unsettled = [run for run in crashed if not self.is_settled(run)]
        # The next read must include every crash that is not settled yet.
        ends = [run.end_time for run in unsettled or crashed if run.end_time]
        if ends:
            self._watermark = (min if unsettled else max)(ends) - _OVERLAP
        return unsettled

    async def settle(self, crashed: Sequence[FlowRun], found: Found, examine: Examine) -> None:
        """Settle crashes. `found`: this host's instances, listed after the crashes were read.

        Calls `examine` where this host's engine has gone meanwhile, before there are successors: it
        pauses the intake, so that they are not used up by starts that cannot succeed.
        """
        batches = [crashed[at : at + _BATCH] for at in range(0, len(crashed), _BATCH)]
        next_batch: asyncio.Task[list[_Past]] | None = None
        async with self._writing:
            try:
                for batch, following in zip_longest(batches, batches[1:]):
                    past = await (next_batch or self._histories(batch))
                    # Read the next batch while successors of this one are created.
                    next_batch = (
                        asyncio.create_task(self._histories(following)) if following else None
                    )
                    await self._settle(past, found, examine)
            finally:
                if next_batch:
                    next_batch.cancel()
                    await asyncio.gather(next_batch, return_exceptions=True)

    async def record_successors(self) -> None:
        """Record successors at crashed runs, as labels and links, one by one: it is not urgent."""
        while self._successors:
            id, successor = next(iter(self._successors.items()))
            async with self._writing:
                await self._runs.label_successor(id, successor)
            self._successors.pop(id)
        while self._links:
            # Removed first: a link is for people alone, and lost where the request fails.
            successor, id = self._links.pop(0)
            async with self._writing:
                await self._runs.link(successor, id)

    def _add_known(self, successors: dict[UUID, UUID]) -> None:
        self._settled |= successors.keys()
        self._successors |= successors
        self.made.set()

    async def _histories(self, crashed: Sequence[FlowRun]) -> list[_Past]:
        """The runs that have no successor yet, with their states."""
        keys = {
            run.id: requeue_key(job_id(run.labels, run.id), attempt_number(run.labels) + 1)
            for run in crashed
        }
        made = await self._runs.by_key(keys.values())
        self._add_known({run.id: made[key].id for run in crashed if (key := keys[run.id]) in made})
        alone = [run for run in crashed if keys[run.id] not in made]
        histories = await self._runs.histories(alone)
        return list(zip(alone, histories, strict=True))

    async def _settle(self, crashed: Sequence[_Past], found: Found, examine: Examine) -> None:
        successors: list[Successor] = []
        fenced = True
        for run, history in crashed:
            if not history:
                continue  # since it was read, it was deleted or started again
            with isolated(run.id):
                fenced &= await self._fence(run.id, found)
                if (decided := decision(history)) is not None:
                    await self._restore(run, decided)
                elif isinstance(verdict := self._judge(run, history, found), Successor):
                    successors.append(verdict)
                else:
                    await self.give_up(run, verdict)
        if not fenced:
            await examine()
        await self._make(successors)

    async def _fence(self, run: UUID, found: Found) -> bool:
        """Remove a run's living instances, so that no two attempts run at once on this host.

        Returns False where the engine does not answer.
        """
        fenced = True
        for instance in found.get(run, ()):
            if instance.alive:
                try:
                    await self._instances.remove(instance)
                except EngineUnavailable as error:
                    # Harmless: of several attempts only the first one publishes.
                    _log.warning("attempt %s may still run: %s", run, error)
                    fenced = False
        return fenced

    def _judge(self, run: FlowRun, history: list[State], found: Found) -> "Successor | str":
        attempt, moved = attempt_number(run.labels) + 1, moves(run.labels)
        job = job_id(run.labels, run.id)
        drained = run.labels.get(DRAINED_LABEL)
        if drained and run.deployment_id is not None:
            most = self._settings.max_attempts + moved + 1
            return Successor(run, attempt, f"{drained} is drained", 0.0, most, moved + 1)
        exits = [instance.exit for instance in found.get(run.id, ()) if instance.exit is not None]
        verdict = judge(Crash(message_of(history), exits[-1] if exits else Exit()))
        if not verdict.retry:
            return verdict.reason
        most = self._settings.max_attempts + moved
        if attempt > most:
            return f"given up after {attempt - 1 - moved} attempts, the last: {verdict.reason}"
        if run.deployment_id is None:
            return f"{verdict.reason}; it cannot be tried again: its deployment was deleted"
        delay = backoff(job, attempt - moved, self._settings.requeue_backoff)
        return Successor(run, attempt, verdict.reason, delay, most, moved)

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
                refused = True  # perhaps because of a single one of them
            # The answer is not reliable: where SQLite was locked it is 200 with FAILED, and even a
            # run that is CREATED may have been rolled back.
            made = await self._runs.by_key(successor.key for successor in group)
            if refused:
                break
        for successor in group:
            if successor.key in made:
                continue
            with isolated(successor.of.id):
                if refusal := await self._make_alone(successor):
                    await self.give_up(
                        successor.of, f"{successor.reason}; it cannot be tried again: {refusal}"
                    )
        if len(made) < len(group):
            made = await self._runs.by_key(successor.key for successor in group)
        there = [(s, made[s.key].id) for s in group if s.key in made]
        await self._cancel_successors_of_cancelled({s.of.id: id for s, id in there})
        lines = {
            s.of.id: f"{s.reason}: tried again as attempt {s.attempt} of {s.most}, flow run {id}"
            + (f", in {s.delay:.0f} s" if s.delay else "")
            for s, id in there
        }
        self._add_known({s.of.id: id for s, id in there})
        self._links += there
        for id, line in lines.items():
            _log.info("%s: %s", id, line)
        await self._runs.log(lines)

    async def _make_alone(self, successor: Successor) -> str | None:
        """Request one successor. Returns why the server refuses for good; None where it did not."""
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

    async def _cancel_successors_of_cancelled(self, made: dict[UUID, UUID]) -> None:
        before = await self._runs.by_id(made)
        for id, successor in made.items():
            if id in before and before[id].state_type in (
                StateType.CANCELLED,
                StateType.CANCELLING,
            ):
                await self._runs.set_state(successor, Cancelled(), force=True)

    async def give_up(self, run: FlowRun, reason: str) -> None:
        """Set the final state of a job: Completed where its result is published, else Failed."""
        if await asyncio.to_thread(stands_result, self._results, run):
            state: State[Any] = Completed(message=f"its result stands; after that, {reason}")
        else:
            state = Failed(message=reason)
        # Not added to the settled runs: a person may retry it in Prefect's UI, and it may crash.
        await self._runs.set_state(run.id, state, force=True)
        _log.warning("%s: %s: %s", run.id, state.name, reason)
        await self._runs.log({run.id: reason})

    async def _restore(self, run: FlowRun, decided: State) -> None:
        """Set the state that was decided before the crash."""
        state = (
            Cancelled(message=decided.message)
            if decided.type == StateType.CANCELLING
            else State(
                type=decided.type, name=decided.name, message=decided.message, data=decided.data
            )
        )
        await self._runs.set_state(run.id, state, force=True)
        _log.info("%s: it was %s before it crashed", run.id, state.name)
