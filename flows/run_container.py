"""run-container: an image of the user's own, run once, and what it writes to /output."""

from tasks.containers.run_container import run_once
from tasks.contracts import Receipt, ResultsDirectory, RunContainer
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("run-container", fresh_container=True)
async def run_container(payload: RunContainer, results_directory: ResultsDirectory) -> Receipt:
    """Run an image, or one that is built for it, and publish what it writes to /output.

    The container is a hardened one beside this flow's, with no network unless asked for. What it
    prints is published too; where it fails, apart from the results.
    """
    async with open_job(results_directory) as job:
        outcome = await run_once(payload, job)
        return await job.publish(outcome.summary, outcome.notes)
