"""The questions that the notifier asks of the Prefect API."""

from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.notifications.ledger import Ledger
from tasks.contracts import Pool, attempt_number, job_id, requeue_key
from tasks.prefect_api.pages import PAGE

_OVERLAP = timedelta(seconds=60)  # so far behind its own time may a run become visible
_MOST_KNOWN = 10_000  # runs that one question may leave out: SQLite takes 32,766 values
_PARAMETERS = {"payload", "results_directory"}  # of a compute task

_T = TypeVar("_T")


class Time(Enum):
    """A time of a flow run that new ones are found by."""

    ENDED = ("end_time", FlowRunSort.END_TIME_DESC)
    DUE = ("expected_start_time", FlowRunSort.EXPECTED_START_TIME_DESC)

    @property
    def field(self) -> str:
        """The field's name."""
        return self.value[0]

    @property
    def newest_first(self) -> FlowRunSort:
        """The order by it, of those that the server knows."""
        return self.value[1]

    def of(self, run: FlowRun) -> datetime:
        """A run's own."""
        return getattr(run, self.field)


class Window:
    """The runs of our pools since a moment, each given once.

    What was given is left out of the next question: where nothing is new, nothing comes back.
    """

    def __init__(self, client: PrefectClient, time: Time, since: datetime, begun: datetime) -> None:
        self._client = client
        self._time = time
        self._since = max(begun, since - _OVERLAP)
        self._seen: dict[UUID, datetime] = {}
        self._forgotten: set[UUID] = set()
        self._forgets_all = False
        self.newest = since
        """The latest time of those given, but none to come."""

    def forget(self, run: UUID) -> None:
        """Give a run again, should it be there again: from the next `unseen` on."""
        self._forgotten.add(run)

    def forget_all(self) -> None:
        """The same of all runs."""
        self._forgets_all = True

    async def unseen(self) -> AsyncGenerator[list[FlowRun]]:
        """Page by page what was not given yet, newest first.

        A page counts as given when the next one is asked for.
        """
        gone = set(self._seen) if self._forgets_all else self._forgotten
        self._seen = {id: at for id, at in self._seen.items() if id not in gone}
        self._forgotten, self._forgets_all = set(), False
        known, before = set(self._seen), None
        while True:
            # By the last one's time and not by an offset: what ends meanwhile moves no page.
            page = await self._page(before, known)
            yield page
            self._seen |= {run.id: self._time.of(run) for run in page}
            if len(page) < PAGE:
                break
            before = self._time.of(page[-1])
            known |= {run.id for run in page if self._time.of(run) == before}
        self._move_on()

    async def _page(self, before: datetime | None, known: set[UUID]) -> list[FlowRun]:
        times = {"after_": self._since, "before_": before}
        wanted: dict[str, Any] = {self._time.field: times, "id": {"not_any_": list(known)}}
        return await self._client.read_flow_runs(
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool))),
            flow_run_filter=FlowRunFilter.model_validate(wanted),
            sort=self._time.newest_first,
            limit=PAGE,
        )

    def _move_on(self) -> None:
        if not self._seen:
            return
        self.newest = max(self.newest, min(datetime.now(UTC), max(self._seen.values())))
        self._since = max(self._since, self.newest - _OVERLAP)
        if len(self._seen) > _MOST_KNOWN:
            oldest = sorted(self._seen.values())[-_MOST_KNOWN]
            self._since = max(self._since, min(oldest, self.newest))  # some are still to come
        self._seen = {id: at for id, at in self._seen.items() if at >= self._since}


async def open_window(client: PrefectClient, ledger: Ledger, time: Time) -> Window:
    """The runs since where the books say that we are."""
    return Window(client, time, await ledger.watermark(time.field), await ledger.begun())


class Runs:
    """The flow runs of jobs."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._flows: dict[UUID, str] = {}

    async def task(self, run: FlowRun) -> str:
        """The compute task of a run."""
        if run.flow_id not in self._flows:
            self._flows[run.flow_id] = (await self._client.read_flow(run.flow_id)).name
        return self._flows[run.flow_id]

    async def by_id(self, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """Those of the runs that are still there."""
        found: dict[UUID, FlowRun] = {}
        for some in _in_pages(ids):
            page = await self._read({"id": {"any_": some}})
            found |= {run.id: run for run in page}
        return found

    async def attempts(self, runs: Iterable[FlowRun]) -> dict[UUID, list[FlowRun]]:
        """By job the attempts up to each run, that run itself and the one after it, in order."""
        found: dict[UUID, dict[UUID, FlowRun]] = defaultdict(dict)
        wanted: list[tuple[str, str]] = []
        for run in runs:
            job, number = job_id(run.labels, run.id), attempt_number(run.labels)
            found[job][run.id] = run
            if number > 1:
                wanted.append(("id", str(job)))
            keys = (requeue_key(job, n) for n in range(2, number + 2) if n != number)
            wanted += [("idempotency_key", key) for key in keys]
        for some in _in_pages(wanted):
            ids = [value for field, value in some if field == "id"]
            keys = [value for field, value in some if field == "idempotency_key"]
            either = {"id": {"any_": ids}, "idempotency_key": {"any_": keys}}
            # In any pool: a deployment may have moved to another one since.
            for run in await self._read({"operator": "or_"} | either):
                found[job_id(run.labels, run.id)][run.id] = run
        return {
            job: sorted(runs.values(), key=lambda run: attempt_number(run.labels))
            for job, runs in found.items()
        }

    async def is_queued_since(self, run: UUID, moment: datetime) -> bool:
        """Whether a run has been put in a queue, anew or for the first time, after a moment."""
        try:
            states = await self._client.read_flow_run_states(run)
        except ObjectNotFound:
            return False
        return any(s.type == StateType.SCHEDULED and s.timestamp > moment for s in states)

    async def _read(self, wanted: dict[str, Any]) -> list[FlowRun]:
        flow_runs = FlowRunFilter.model_validate(wanted)
        return await self._client.read_flow_runs(flow_run_filter=flow_runs, limit=PAGE)


def _in_pages(values: Iterable[_T]) -> Iterator[list[_T]]:
    rest = iter(values)
    return iter(lambda: list(islice(rest, PAGE)), [])
