"""generate-data: runs containers that generate data, and delivers their lines to a topic."""

from tasks.contracts import GenerateData, Receipt, ResultsDirectory
from tasks.generation.generate_data import generate
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("generate-data", fresh_container=True)
async def generate_data(payload: GenerateData, results_directory: ResultsDirectory) -> Receipt:
    """Run containers together for some time, and deliver each line of JSON they print to a topic.

    The containers are hardened, beside the container of this flow, and start and stop on time. A
    container that dies early is restarted. The result holds counts, and the lines that are no JSON.
    """
    async with open_job(results_directory) as job:
        outcome = await generate(payload, job)
        return await job.publish(outcome.summary, outcome.notes)
