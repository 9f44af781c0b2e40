"""run-container: runs an image of the user once, and publishes what it writes to /output."""

from tasks.containers.run_container import run_once
from tasks.contracts import Receipt, ResultsDirectory, RunContainer
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("run-container", fresh_container=True)
async def run_container(payload: RunContainer, results_directory: ResultsDirectory) -> Receipt:
    """Run an image, or build and run one, and publish what it writes to /output.

    The container is hardened, beside the container of this flow, without network unless the
    payload asks for one. Its logs are published too. The output of a failed job is kept apart from
    results.
    """
    async with open_job(results_directory) as job:
        outcome = await run_once(payload, job)
        return await job.publish(outcome.summary, outcome.notes)
