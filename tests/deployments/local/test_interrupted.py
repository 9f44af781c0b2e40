"""Jobs put back while their runs are being deleted by someone else, and put back twice."""

import asyncio
import socket
from uuid import UUID

from prefect import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local import interrupted
from tasks.storage.results.local import LocalRoot
from tests.support.other_hosts import held_run
from tests.support.platform import Platform, pause
from tests.support.processes import frozen, supervisor

WORKER = "prefecture-gone-3"


def test_a_run_that_was_deleted_meanwhile_keeps_no_other_back(process_platform: Platform) -> None:
    deleted: list[UUID] = []

    class DeletesTheFirst(LocalRoot):
        def discard_stages(self, job: UUID, attempt: UUID | None = None) -> None:
            # Between the look at what is held and the word that puts it back.
            if not deleted:
                process_platform.rest("DELETE", f"/flow_runs/{job}").raise_for_status()
                deleted.append(job)

    async def settle() -> int:
        with temporary_settings({PREFECT_API_URL: process_platform.api}):
            async with get_client() as client:
                return await interrupted.put_back(
                    client, WORKER, DeletesTheFirst(process_platform.results)
                )

    with pause(process_platform):
        jobs = [held_run(process_platform, WORKER, "deleted") for _ in range(3)]
        assert asyncio.run(settle()) == 2
        left = [job for job in jobs if job not in deleted]
        assert {process_platform.run(job)["state_type"] for job in left} == {"SCHEDULED"}
    for job in left:
        process_platform.completed(job, "deleted")


def test_a_run_that_is_put_back_twice_keeps_its_attempt(process_platform: Platform) -> None:
    workers = [f"prefecture-{socket.gethostname()}-{name}" for name in ("first", "second")]

    async def settle(worker: str) -> int:
        with temporary_settings({PREFECT_API_URL: process_platform.api}):
            async with get_client() as client:
                results = LocalRoot(process_platform.results)
                return await interrupted.put_back(client, worker, results)

    # Its supervisor would find them lost, if this took long.
    with pause(process_platform), frozen(supervisor(process_platform)):
        response = process_platform.create(
            "find-primes/low",
            parameters={"payload": {"upper_bound": 10}, "results_directory": "twice"},
            state={"type": "RUNNING"},
            labels={"prefect.worker.name": workers[0]},
        )
        job = UUID(response.json()["id"])
        assert asyncio.run(settle(workers[0])) == 1
        # As the second worker has taken it, before it has written its own name there.
        taken = {"state": {"type": "PENDING"}, "force": True}
        process_platform.rest("POST", f"/flow_runs/{job}/set_state", taken).raise_for_status()
        assert asyncio.run(settle(workers[1])) == 1
        assert process_platform.run(job)["state_type"] == "SCHEDULED"
    process_platform.completed(job, "twice")
