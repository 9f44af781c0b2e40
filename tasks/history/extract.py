"""Reads attempts from the Prefect API and writes them into the history. Idempotent.

Ended attempts are read by their end time, in slices: each slice is a request, a transaction and a
watermark, so that an interruption loses one slice at most. Open attempts are read by their state. A
run that is open in the history and no longer on the server was deleted.

A run costs the server 1 ms over the API (200 a page), 5 ms by its events (three a run, 50 a page),
and 4 us in its own tables (benchmarks/reading_history.py). Only the API is public and works from
any host with every database; 1,000 runs a second are more than Prefect can run.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks.contracts import Pool, plain
from tasks.history import store
from tasks.history.database import History
from tasks.history.outcomes import Row
from tasks.history.rows import RowReader
from tasks.prefect_api.clock import server_time
from tasks.prefect_api.jobs import is_of_a_job
from tasks.prefect_api.pages import PAGE

ENDED = "ended"
DUE = "due"
_OVERLAP = timedelta(seconds=60)  # a run may become visible this long after its own end time
_SKEW = timedelta(minutes=10)  # at most, between this host's clock and the server's
_FIRST_SLICE = timedelta(hours=1)
_LONGEST_SLICE = timedelta(days=30)
_SHORTEST_SLICE = timedelta(milliseconds=1)
_AT_WORK = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
_WAITING = [StateType.SCHEDULED, StateType.PAUSED]


@dataclass
class Pass:
    """Counts of one pass: attempts read and written."""

    read: int = 0
    """Attempts read from the API."""
    new: int = 0
    """Attempts of these that were new or had changed."""
    deleted: int = 0
    forgotten: int = 0
    reached: datetime = field(default_factory=lambda: datetime.fromtimestamp(0, UTC))
    """The history holds every attempt that ended up to this time."""
    all: bool = True
    """Whether that is now. False where the pass ran out of time."""


class Extract:
    """One pass over the runs of the server."""

    def __init__(
        self, client: PrefectClient, history: History, reader: RowReader, seconds: float
    ) -> None:
        self._client = client
        self._history = history
        self._reader = reader
        self._until = asyncio.get_running_loop().time() + seconds
        self._seen: set[str] = set()
        self.done = Pass()

    async def run(self) -> Pass:
        """Read all new attempts, or until the time is over: the next pass continues there."""
        await self._ended()
        await self._open()
        await self._closed_unseen()
        return self.done

    async def _ended(self) -> None:
        begin = await self._in_thread(store.watermark, ENDED) - _OVERLAP
        now, length = datetime.now(UTC), _FIRST_SLICE
        if begin.year < 1971:
            begin = await self._earliest() or now
        newest: datetime = begin
        while True:
            if asyncio.get_running_loop().time() > self._until:
                self.done.all = False
                break
            end = begin + length if begin + length < now else None
            page = await self._page("end_time", begin, end, FlowRunSort.END_TIME_DESC)
            if len(page) == PAGE and length > _SHORTEST_SLICE:
                length = ((end or now) - begin) / 8
                continue
            page = await self._rest(page, begin)
            newest = max([newest, *(plain(run.end_time) for run in page if run.end_time)])
            # The watermark moves to the end of the slice, but in the last minutes, where clocks
            # may differ, only to the newest end that was read.
            mark = max(newest, end) if end and end < now - _SKEW else newest
            await self._put(page, {ENDED: mark})
            self.done.reached = mark
            if end is None:
                break
            begin = end
            growth = 8 if not page else 2 if len(page) <= PAGE // 2 else 1
            length = min(_LONGEST_SLICE, length * growth)

    async def _rest(self, page: list[FlowRun], begin: datetime) -> list[FlowRun]:
        """Read all pages of a slice that is too short to be divided; `page` is the first."""
        found = {run.id: run for run in page}
        while len(page) == PAGE:
            page = await self._page(
                *("end_time", begin, page[-1].end_time, FlowRunSort.END_TIME_DESC), list(found)
            )
            found |= {run.id: run for run in page}
        return list(found.values())

    async def _earliest(self) -> datetime | None:
        """Return when the first of all runs was due; None where there are no runs."""
        first = await self._read({}, FlowRunSort.EXPECTED_START_TIME_ASC, 1)
        due = first[0].expected_start_time if first else None
        return plain(due) - _OVERLAP if due else None

    async def _open(self) -> None:
        """Read the attempts that a worker holds, and the pending ones due since the last pass.

        Runs that are due later are not read: they are not pending yet, and a schedule's future runs
        are deleted and planned anew whenever the schedule or its deployment changes.
        """
        at_work = {"state": {"type": {"any_": _AT_WORK}}}
        held: dict[UUID, FlowRun] = {}
        while True:
            known = {"id": {"not_any_": list(held)}} if held else {}
            page = await self._read(at_work | known, FlowRunSort.ID_DESC)
            held |= {run.id: run for run in page}
            if len(page) < PAGE:
                break
        await self._put(list(held.values()), {})
        since = await self._in_thread(store.watermark, DUE)
        newest, before, known_ids = since, await server_time(self._client), list[UUID]()
        while True:
            page = await self._page(
                *("expected_start_time", since - _OVERLAP, before),
                *(FlowRunSort.EXPECTED_START_TIME_DESC, known_ids, _WAITING),
            )
            due = [plain(run.expected_start_time) for run in page if run.expected_start_time]
            newest = max([newest, *due])
            await self._put(page, {})
            if len(page) < PAGE or asyncio.get_running_loop().time() > self._until:
                break
            before = due[-1]
            known_ids = [run.id for run in page if run.expected_start_time == before]
        await self._put([], {DUE: newest})

    async def _closed_unseen(self) -> None:
        """Read by id the attempts that were open, and were not read in this pass."""
        now = datetime.now(UTC)
        open_ = await self._in_thread(store.open_attempts, PAGE)
        unseen = [id for id in open_ if id not in self._seen]
        if not unseen:
            return
        found = await self._read({"id": {"any_": unseen}}, FlowRunSort.ID_DESC, everywhere=True)
        await self._put(found, {})
        there = {str(run.id) for run in found}
        await self._in_thread(store.mark_checked, there, now)
        gone = [id for id in unseen if id not in there]
        self.done.deleted += await self._in_thread(store.mark_deleted, gone, now)

    async def _page(
        self,
        time: str,
        after: datetime,
        before: datetime | None,
        sort: FlowRunSort,
        known: Sequence[UUID] = (),
        states: Iterable[StateType] = (),
    ) -> list[FlowRun]:
        wanted: dict[str, Any] = {time: {"after_": after, "before_": before}}
        if known:
            wanted["id"] = {"not_any_": list(known)}
        if states:
            wanted["state"] = {"type": {"any_": list(states)}}
        return await self._read(wanted, sort)

    async def _read(
        self,
        wanted: dict[str, Any],
        sort: FlowRunSort,
        limit: int | None = None,
        *,
        everywhere: bool = False,
    ) -> list[FlowRun]:
        ours = WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
        return await self._client.read_flow_runs(
            work_pool_filter=None if everywhere else ours,
            flow_run_filter=FlowRunFilter.model_validate(wanted),
            sort=sort,
            limit=limit or PAGE,
        )

    async def _put(self, runs: Sequence[FlowRun], marks: dict[str, datetime]) -> None:
        runs = [run for run in runs if is_of_a_job(run)]
        self._seen |= {str(run.id) for run in runs}
        self.done.read += len(runs)
        changed = {str(run.id): plain(run.updated or datetime.now(UTC)) for run in runs}
        new = await self._in_thread(store.newer, changed) if runs else set[str]()
        rows: list[Row] = [await self._reader.row(run) for run in runs if str(run.id) in new]
        self.done.new += await self._in_thread(store.put, rows, marks)

    async def _in_thread(self, work: Any, *given: Any) -> Any:
        """Run `work` in a transaction, in a thread."""

        def write() -> Any:
            with self._history.writing() as connection:
                return work(connection, *given)

        return await asyncio.to_thread(write)
