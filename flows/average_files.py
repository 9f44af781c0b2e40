"""average-files: the mean of every index over very many files of numbers."""

from tasks.contracts import AverageFiles, Receipt, ResultsDirectory
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("average-files", network=False)
async def average_files(payload: AverageFiles, results_directory: ResultsDirectory) -> Receipt:
    """Write the mean of the files' first numbers, of their second numbers and so on.

    Each mean is exact, rounded once to float64: the order of files and the number of workers do
    not change it. The job fails where a file is shorter than another, holds a text that is no
    number, or changes while it is read.
    """
    async with open_job(results_directory) as job:
        # Imported here, because its libraries take 0.4 s: the job is Running already.
        from tasks.averages.average_files import average

        summary = await average(payload, job)
        return await job.publish(summary.model_dump(), summary.notes())
