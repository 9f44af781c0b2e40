"""Finds the job that the first characters of an id name."""

from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from deployments.jobs.queries.filters import is_in_pool_of_jobs
from deployments.jobs.queries.prefixes import prefix_of, the_only_one
from tasks.contracts import job_id
from tasks.prefect_api.pages import PAGE

_SLACK = 20  # runs that may be deleted during the search


async def resolve_job(client: PrefectClient, text: str) -> UUID:
    """The id that `text` names: a whole id, or an unambiguous prefix of a job's or attempt's id.

    A whole id is returned without a query. Raises InvalidPayload where `text` is no prefix, and
    where it matches no job or several.
    """
    try:
        return UUID(text)
    except ValueError:
        prefix = prefix_of(text)
    jobs = {
        job_id(run.labels, run.id): None
        for run in await _runs_with(client, prefix)
        if is_in_pool_of_jobs(run)
    }
    return the_only_one(text, list(jobs))


async def _runs_with(client: PrefectClient, prefix: str) -> list[FlowRun]:
    """All flow runs whose ids begin with `prefix`.

    The API has no such filter, but sorts by id, the highest first. A binary search finds the place:
    about twenty requests for a million runs, and one request if the run is among the newest.
    """

    def head(run: FlowRun) -> str:
        return str(run.id)[: len(prefix)]

    async def is_reached(place: int) -> bool:
        runs = await _read(client, place, 1)
        return not runs or head(runs[0]) <= prefix

    page = await _read(client, 0, PAGE)
    start = 0
    if len(page) == PAGE and head(page[-1]) > prefix:
        low, high = PAGE - 1, PAGE
        while not await is_reached(high):
            low, high = high, 4 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if await is_reached(middle) else (middle, high)
        start = max(0, high - _SLACK)
        page = await _read(client, start, PAGE)
    found = [run for run in page if head(run) == prefix]
    while len(page) == PAGE and head(page[-1]) >= prefix:
        start += PAGE
        page = await _read(client, start, PAGE)
        found += (run for run in page if head(run) == prefix)
    return found


async def _read(client: PrefectClient, start: int, limit: int) -> list[FlowRun]:
    return await client.read_flow_runs(sort=FlowRunSort.ID_DESC, offset=start, limit=limit)
