"""The queries of the notifier to the Prefect API."""

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

_OVERLAP = timedelta(seconds=60)  # by which a run may become visible after its own time
_MOST_KNOWN = 10_000  # runs that one query may exclude: SQLite accepts 32,766 values

_T = TypeVar("_T")


class Time(Enum):
    """A time field of flow runs by which new runs are found."""

    ENDED = ("end_time", FlowRunSort.END_TIME_DESC)
    DUE = ("expected_start_time", FlowRunSort.EXPECTED_START_TIME_DESC)

    @property
    def field(self) -> str:
        """The name of the field."""
        return self.value[0]

    @property
    def newest_first(self) -> FlowRunSort:
        """The server's sort order, newest first by this field."""
        return self.value[1]

    def of(self, run: FlowRun) -> datetime:
        """The value of the field in a run."""
        return getattr(run, self.field)


class Window:
    """The runs of our pools since a moment, each returned once.

    Queries exclude runs that were returned before: without new runs the answer is empty.
    """

    def __init__(self, client: PrefectClient, time: Time, since: datetime, begun: datetime) -> None:
        self._client = client
        self._time = time
        self._since = max(begun, since - _OVERLAP)
        self._seen: dict[UUID, datetime] = {}
        self._forgotten: set[UUID] = set()
        self._forgets_all = False
        self.newest = since
        """The latest time among the returned runs, never in the future."""

    def forget(self, run: UUID) -> None:
        """Let the next `unseen` return this run again, if it still matches."""
        self._forgotten.add(run)

    def forget_all(self) -> None:
        """Let the next `unseen` return all runs again."""
        self._forgets_all = True

    async def unseen(self) -> AsyncGenerator[list[FlowRun]]:
        """Yield the runs not returned before, in pages, newest first.

        A page counts as returned when the next page is requested.
        """
        gone = set(self._seen) if self._forgets_all else self._forgotten
        self._seen = {id: at for id, at in self._seen.items() if id not in gone}
        self._forgotten, self._forgets_all = set(), False
        known, before = set(self._seen), None
        while True:
            # By the time of the last run, not by an offset: runs that end meanwhile shift no page.
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
            # Not after `newest`: times of planned runs lie in the future.
            self._since = max(self._since, min(oldest, self.newest))
        self._seen = {id: at for id, at in self._seen.items() if at >= self._since}


async def open_window(client: PrefectClient, ledger: Ledger, time: Time) -> Window:
    """Open the window of runs since the watermark in the notification database."""
    return Window(client, time, await ledger.watermark(time.field), await ledger.begun())


class Runs:
    """Queries for the flow runs of jobs."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._flows: dict[UUID, str] = {}

    async def task(self, run: FlowRun) -> str:
        """The name of the compute task of a run."""
        if run.flow_id not in self._flows:
            self._flows[run.flow_id] = (await self._client.read_flow(run.flow_id)).name
        return self._flows[run.flow_id]

    async def by_id(self, ids: Iterable[UUID]) -> dict[UUID, FlowRun]:
        """Read runs by id; deleted runs are left out."""
        found: dict[UUID, FlowRun] = {}
        for some in _in_pages(ids):
            page = await self._read({"id": {"any_": some}})
            found |= {run.id: run for run in page}
        return found

    async def attempts(self, runs: Iterable[FlowRun]) -> dict[UUID, list[FlowRun]]:
        """For each run the attempts of its job, in order, up to the attempt after that run."""
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
            # In any pool: a deployment may have moved to another pool meanwhile.
            for run in await self._read({"operator": "or_"} | either):
                found[job_id(run.labels, run.id)][run.id] = run
        return {
            job: sorted(runs.values(), key=lambda run: attempt_number(run.labels))
            for job, runs in found.items()
        }

    async def is_queued_since(self, run: UUID, moment: datetime) -> bool:
        """Whether a run was put in a queue, for the first time or again, after a moment."""
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
