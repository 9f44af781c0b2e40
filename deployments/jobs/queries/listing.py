"""Lists jobs, the newest first."""

from asyncio import create_task, gather
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterTags
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from deployments.jobs.queries.filters import Filters, doubtful, filters_of, is_job, state_of, takes
from deployments.jobs.queries.places import TOP, Place
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import ENDED, JobRecord, JobState, Listing
from tasks.contracts import attempt_number, job_id
from tasks.prefect_api.briefly import briefly
from tasks.prefect_api.pages import PAGE

_INTERNAL = DeploymentFilter(tags=DeploymentFilterTags(all_=["internal"]))
_WITH_REASON = (*ENDED, JobState.CRASHED, JobState.BLOCKED)
_MOST_DOUBTFUL = 1_000  # runs that are read to count jobs
_NAMES_KNOWN_FOR = 1.0  # seconds
_HELPERS_KNOWN_FOR = 10.0  # seconds
_SPARE = 10  # additional runs in a page, since some are helper flows or replaced attempts


async def list_jobs(
    client: PrefectClient,
    selection: Selection,
    limit: int | None = None,
    after: str = "",
    *,
    is_counted: bool = True,
) -> Listing:
    """The newest jobs of a selection, `limit` at most, or those that follow where an earlier list
    has stopped: `after` is its `next`. Jobs that are submitted meanwhile do not move the others.
    `is_counted`: whether to count those that are not listed. Raises InvalidPayload where `after` is
    none.

    Reads pages of up to 200 runs until there are enough. The server cannot filter by results
    directory: a selection by directory reads all runs that match its other criteria.
    """
    jobs: dict[UUID, JobRecord] = {}
    place = Place.parse(after)
    size = PAGE if limit is None or selection.directory else min(PAGE, limit + _SPARE)
    # Counted meanwhile: the server's database answers several questions at a time.
    is_counted = is_counted and limit is not None and not after
    counting = create_task(count_jobs(client, selection)) if is_counted else None
    try:
        tasks = await read_task_names(client)
        async with aclosing(job_runs(client, selection, size, place)) as runs:
            async for run in runs:
                # Of two attempts at a job, the later one comes first.
                job = job_id(run.labels, run.id)
                if job in jobs:
                    place = place.reached(run)
                    continue
                if limit is not None and len(jobs) == limit:
                    total = await counting if counting else None
                    return Listing(list(jobs.values()), False, total, str(place))
                jobs[job] = record(run, tasks.get(run.flow_id, "unknown"))
                place = place.reached(run)
    finally:
        if counting is not None:
            # Not cancelled: of a request that is cancelled in httpx the connection may stay taken
            # for ever (httpcore 1.0.9), and Prefect's client has 16 of them.
            await gather(counting, return_exceptions=True)
    return Listing(list(jobs.values()), is_all=True, total=None if after else len(jobs))


async def count_jobs(client: PrefectClient, selection: Selection) -> int | None:
    """How many jobs a selection has, without reading them all.

    The server counts runs; helper flows, replaced attempts and jobs that are not due are taken off.
    None where the results directory, or more than 1,000 such runs, would have to be read.
    """
    if selection.directory is not None:
        return None
    filters, all_doubtful = filters_of(selection), [*doubtful(selection)]
    helpers = {"any_": [*await _internal_deployments(client)]}
    runs, internal, *numbers = await gather(
        client.count_flow_runs(**filters),
        client.count_flow_runs(**filters_of(selection, deployment_id=helpers)),
        *(client.count_flow_runs(**some) for some in all_doubtful),
    )
    if any(number > _MOST_DOUBTFUL for number in numbers):
        return None
    runs -= internal
    for some, number in zip(all_doubtful, numbers, strict=True):
        if number:
            found = [run async for run in read_runs(client, some, PAGE)]
            now = datetime.now(UTC)
            runs -= sum(is_job(run) and not takes(selection, run, now) for run in found)
    return runs


@briefly(_HELPERS_KNOWN_FOR)
async def _internal_deployments(client: PrefectClient) -> list[UUID]:
    """The deployments of helper flows. By their ids the server counts faster than by their tag."""
    found = await client.read_deployments(deployment_filter=_INTERNAL, limit=PAGE)
    return [deployment.id for deployment in found]


@briefly(_NAMES_KNOWN_FOR)
async def read_task_names(client: PrefectClient) -> Mapping[UUID, str]:
    """The names of all flows, by flow id. A flow that was made within a second may be missing."""
    names: dict[UUID, str] = {}
    while True:
        page = await client.read_flows(limit=PAGE, offset=len(names))
        names |= {flow.id: flow.name for flow in page}
        if len(page) < PAGE:
            return names


def record(run: FlowRun, task: str) -> JobRecord:
    """The record of a job, from its latest attempt."""
    state = state_of(run, datetime.now(UTC))
    message = (
        run.state.message if run.state is not None and state is not JobState.COMPLETED else None
    )
    return JobRecord(
        job=job_id(run.labels, run.id),
        task=task,
        name=run.name,
        results_directory=str(run.parameters.get("results_directory", "")),
        queue=run.work_queue_name or "",
        tags=tuple(sorted(run.tags)),
        state=state,
        attempt=attempt_number(run.labels),
        due=run.expected_start_time,
        started=run.start_time,
        ended=run.end_time if state in ENDED else None,
        waited=max(0.0, run.estimated_start_time_delta.total_seconds()),
        ran=run.estimated_run_time.total_seconds(),
        reason=" ".join((message or "").split()) if state in _WITH_REASON else "",
    )


async def job_runs(
    client: PrefectClient,
    selection: Selection,
    size: int,
    after: Place,
    *,
    oldest_first: bool = False,
) -> AsyncGenerator[FlowRun]:
    """The decisive runs of the jobs of a selection, newest first; `size` in each request."""
    filters = filters_of(selection)
    async with aclosing(read_runs(client, filters, size, after, oldest_first=oldest_first)) as runs:
        async for run in runs:
            if takes(selection, run, datetime.now(UTC)):
                yield run


async def read_runs(
    client: PrefectClient,
    filters: Filters,
    size: int,
    after: Place = TOP,
    *,
    oldest_first: bool = False,
) -> AsyncGenerator[FlowRun]:
    """All runs that pass the filters, newest first, `size` in each request."""
    sort = FlowRunSort.EXPECTED_START_TIME_DESC
    if oldest_first:
        sort = FlowRunSort.EXPECTED_START_TIME_ASC
    while True:
        page = await client.read_flow_runs(
            **after.beyond(filters, oldest_first=oldest_first), sort=sort, limit=size
        )
        for run in page:
            yield run
            after = after.reached(run)
        if len(page) < size:
            return
