"""generate-data: containers that generate data for a while, brought to a topic line by line."""

from tasks.contracts import GenerateData, Receipt, ResultsDirectory
from tasks.generation.generate_data import generate
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("generate-data", fresh_container=True)
async def generate_data(payload: GenerateData, results_directory: ResultsDirectory) -> Receipt:
    """Run containers together for a while, and bring each line of JSON that they print to a topic.

    They are hardened ones beside this flow's, started on time, started again where one dies early,
    and ended on time. What is published is the counts, and what was no JSON.
    """
    async with open_job(results_directory) as job:
        outcome = await generate(payload, job)
        return await job.publish(outcome.summary, outcome.notes)
