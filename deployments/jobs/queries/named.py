"""Jobs by their ids: the decisive attempt at each, for many at once."""

from collections.abc import Sequence
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from deployments.jobs.attempts import decided_by_later, decisive_attempt, later_keys
from tasks.contracts import attempt_number, job_id
from tasks.prefect_api.pages import PAGE

_AT_ONCE = 10  # jobs whose later attempts are looked for together, by a hundred keys each


async def read_named(client: PrefectClient, jobs: Sequence[UUID]) -> list[FlowRun]:
    """The decisive attempts at jobs, in their order. Those that the server does not know are left
    out."""
    wanted = list(dict.fromkeys(jobs))
    runs: dict[UUID, list[FlowRun]] = {job: [] for job in wanted}

    def add(found: Sequence[FlowRun]) -> None:
        for run in found:
            runs.get(job_id(run.labels, run.id), []).append(run)

    for start in range(0, len(wanted), PAGE):
        add(await _read(client, id={"any_": wanted[start : start + PAGE]}))
    doubtful = [job for job, found in runs.items() if not found or decided_by_later(found[0])]
    for start in range(0, len(doubtful), _AT_ONCE):
        keys = [key for job in doubtful[start : start + _AT_ONCE] for key in later_keys(job)]
        add(await _read(client, idempotency_key={"any_": keys}))
    ordered = (sorted(found, key=lambda run: attempt_number(run.labels)) for found in runs.values())
    return [decisive_attempt(found) for found in ordered if found]


async def _read(client: PrefectClient, **wanted: object) -> list[FlowRun]:
    found: list[FlowRun] = []
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(wanted), limit=PAGE, offset=len(found)
        )
        found += page
        if len(page) < PAGE:
            return found
