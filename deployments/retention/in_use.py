"""What jobs that have not ended need: their own results, results of others, and inputs."""

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter, WorkPoolFilterName
from prefect.client.schemas.objects import FlowRun, StateType

from deployments.jobs.queries.filters import Filters
from deployments.jobs.queries.listing import read_runs
from tasks.contracts import Pool, job_id
from tasks.prefect_api.jobs import is_of_a_job
from tasks.prefect_api.pages import PAGE

_OPEN = (
    *(StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING),
    *(StateType.CANCELLING, StateType.PAUSED),
)
_REQUEUED = timedelta(hours=1)  # after a crash, within which the next attempt is there
_JOBS = WorkPoolFilter(name=WorkPoolFilterName(any_=list(Pool)))
_WILD = "*?["
_OF_A_JOB = "job://"  # begins a source that is the result of another job


@dataclass
class InUse:
    """What must not be removed."""

    jobs: set[UUID] = field(default_factory=set[UUID])
    """Those that have not ended, and those whose results they read."""
    sources: set[str] = field(default_factory=set[str])
    """The texts of their payloads: any of them may name an input."""

    def add(self, job: UUID, parameters: Mapping[str, Any]) -> None:
        """Add a job that has not ended."""
        self.jobs.add(job)
        self.add_sources(parameters.get("payload"))

    def add_sources(self, payload: Any) -> None:
        """Add what a payload may name."""
        for text in _texts(payload):
            if text.startswith(_OF_A_JOB):
                self.jobs |= _named(text)
            else:
                self.sources.add(text.strip("/"))

    def has_input(self, path: str) -> bool:
        """Whether a job may read a file, by its name under the inputs root: it names the file, a
        folder above it, or a glob that begins like it."""
        above = path
        while above:
            if above in self.sources:
                return True
            above = above.rpartition("/")[0]
        return any(path.startswith(begin) for begin in self._globs())

    def _globs(self) -> Iterator[str]:
        for text in self.sources:
            if any(c in text for c in _WILD):
                end = min(text.index(c) for c in _WILD if c in text)
                yield text[:end]


async def read_in_use(client: PrefectClient) -> InUse:
    """Read what jobs need that wait, run, or have just crashed and will be run again."""
    found = InUse()
    async for run in _open_runs(client):
        if is_of_a_job(run):
            found.add(job_id(run.labels, run.id), run.parameters)
    return found


async def _open_runs(client: PrefectClient) -> AsyncGenerator[FlowRun]:
    crashed_since = datetime.now(UTC) - _REQUEUED
    crashed = {"state": {"type": {"any_": [StateType.CRASHED]}}}
    wanted: tuple[dict[str, Any], ...] = (
        {"state": {"type": {"any_": list(_OPEN)}}},
        crashed | {"end_time": {"after_": crashed_since}},
    )
    for criteria in wanted:
        filters = Filters(
            flow_filter=None,
            work_pool_filter=_JOBS,
            flow_run_filter=FlowRunFilter.model_validate(criteria),
        )
        async with aclosing(read_runs(client, filters, PAGE)) as runs:
            async for run in runs:
                yield run


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value of JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in cast("Mapping[str, Any]", value).values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in cast("list[Any]", value):
            yield from _texts(inner)


def _named(text: str) -> set[UUID]:
    """The ids that a source names, behind a results directory or not."""
    found: set[UUID] = set()
    for part in text.removeprefix(_OF_A_JOB).split("/"):
        with suppress(ValueError):
            found.add(UUID(part))
    return found
