"""How the jobs stand that other jobs wait for: whether each has ended, and how."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun

from deployments.jobs.attempts import (
    OUTCOMES,
    attempts,
    decided_by_later,
    decisive_attempt,
    is_settled,
)
from deployments.jobs.queries.filters import is_job
from deployments.jobs.records import Outcome
from tasks.contracts import AFTER_ENDED_LABEL, AFTER_LABEL, ids_in, job_id
from tasks.prefect_api.pages import PAGE

_NAMED = 3  # jobs in the message of a state
DID_NOT_RUN = "did not run: "
"""Begins the reason of a job that ended because another one had failed."""


@dataclass(frozen=True)
class Standing:
    """How a job stands."""

    job: UUID
    """Its id, also where it was asked for by the id of an attempt."""
    name: str
    directory: str
    """Its results directory."""
    outcome: Outcome | None
    """None until it has ended, and this can no longer change."""
    reason: str
    """Why it has failed or was cancelled, in one line."""
    is_unsettled: bool
    """Whether it has failed or was cancelled so recently that this may still change."""

    def __str__(self) -> str:
        return f"job {self.job} ({self.name})"

    @property
    def blame(self) -> str:
        """Why a job that waits for this one cannot run: the first failure of a chain."""
        if self.reason.startswith(DID_NOT_RUN):
            return self.reason
        verb = "failed" if self.outcome == "failed" else "was cancelled"
        return f"{DID_NOT_RUN}{self} {verb}"


async def read_standings(client: PrefectClient, jobs: Iterable[UUID]) -> dict[UUID, Standing]:
    """Read how jobs stand, by the ids that are asked for; those without a flow run are left out.

    One request for 200 jobs that wait, run or have completed, and two for each other job.
    """
    wanted = list(dict.fromkeys(jobs))
    found: dict[UUID, Standing] = {}
    for start in range(0, len(wanted), PAGE):
        ids = wanted[start : start + PAGE]
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)), limit=PAGE
        )
        runs = {run.id: run for run in page}
        for id in ids:
            run = runs.get(id)
            if run is None or decided_by_later(run):
                # Later attempts decide, also where the first is deleted.
                known = await attempts(client, id)
                run = decisive_attempt(known) if known else None
            if run is not None and is_job(run):
                found[id] = _standing(run)
    return found


async def undone(client: PrefectClient, run: FlowRun) -> list[Standing]:
    """The jobs that a flow run waits for, by its labels, and that have not ended yet."""
    labels = [run.labels.get(label) for label in (AFTER_LABEL, AFTER_ENDED_LABEL)]
    standings = await read_standings(client, (job for label in labels for job in ids_in(label)))
    return [each for each in standings.values() if each.outcome is None]


def waits_for(jobs: Sequence[Standing]) -> str:
    """What a job waits for, in words; empty for nothing."""
    if not jobs:
        return ""
    shown = ", ".join(map(str, jobs[:_NAMED]))
    more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
    return f"waits for {shown}{more}"


def _standing(run: FlowRun) -> Standing:
    message = (run.state.message or "") if run.state else ""
    outcome, settled = OUTCOMES.get(run.state_type), is_settled(run)
    return Standing(
        job=job_id(run.labels, run.id),
        name=run.name,
        directory=str(run.parameters["results_directory"]),
        outcome=outcome if settled else None,
        reason=" ".join(message.split()),
        is_unsettled=outcome is not None and not settled,
    )
