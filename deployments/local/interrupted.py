"""Puts the jobs of a stopped worker back in their queue, to run again."""

import asyncio
import logging

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Scheduled

from deployments.hosts import held_runs
from deployments.pools import read_workers
from tasks.contracts import WORKER_LABEL, Pool, job_id
from tasks.errors import PrefectureError
from tasks.storage.results.interface import ResultsRoot

_NOT_FOUND = 404
_log = logging.getLogger(__name__)


async def put_back(client: PrefectClient, worker: str, results: ResultsRoot) -> int:
    """Reschedule the runs that a worker held when it ended, and discard their stages.

    Returns how many runs were rescheduled. Call it only after the worker and all its processes are
    gone: otherwise a run could be executed twice.
    """
    held = await held_runs(client)
    alone = await _no_other_host(client, worker)
    ours = [
        run
        for run in held
        # A run that was just claimed has no label yet: it is this worker's only if no other host
        # has a worker.
        if (run.labels.get(WORKER_LABEL) or (worker if alone else None)) == worker
    ]
    rescheduled = 0
    for run in ours:
        try:
            await asyncio.to_thread(results.discard_stages, job_id(run.labels, run.id))
        except PrefectureError as error:
            _log.warning("%s: its stage is removed later: %s", run.id, error)
        try:
            # First: the next worker writes its own name soon after it has claimed the run, and
            # until then the run must not carry the name of a worker that is gone.
            await client.update_flow_run_labels(run.id, {WORKER_LABEL: ""})
            await client.set_flow_run_state(run.id, _next(run), force=True)
        except ObjectNotFound:
            continue  # deleted meanwhile
        except PrefectHTTPStatusError as error:
            if error.response.status_code == _NOT_FOUND:
                continue  # deleted meanwhile: from the request for its labels
            raise
        rescheduled += not _was_cancelled(run)
    return rescheduled


async def _no_other_host(client: PrefectClient, worker: str) -> bool:
    """Whether all workers that the server regards as online were started on this host."""
    here = worker.rpartition("-")[0] + "-"  # workers are named after their host
    for pool in Pool:
        for other in await read_workers(client, pool):
            if other.status == "ONLINE" and not other.name.startswith(here):
                return False
    return True


def _was_cancelled(run: FlowRun) -> bool:
    return run.state_type == StateType.CANCELLING


def _next(run: FlowRun) -> State:
    if _was_cancelled(run):
        return Cancelled(message="cancelled; its worker was stopped")
    # Its due time is its place in the queue.
    return Scheduled(
        scheduled_time=run.expected_start_time,
        message="its worker was stopped: back in the queue",
    )
