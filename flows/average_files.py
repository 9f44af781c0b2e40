"""average-files: the mean of every index over very many files of numbers."""

from tasks.contracts import AverageFiles, Receipt, ResultsDirectory
from tasks.runtime.compute_task import compute_task, open_job


@compute_task("average-files")
async def average_files(payload: AverageFiles, results_directory: ResultsDirectory) -> Receipt:
    """Write the mean of the files' first numbers, of their second ones and so on.

    Each is the exact mean rounded to float64, so that no order of files and no number of workers
    changes a bit of it. Nothing is published where a file is shorter than another, holds what is
    no number, or changes meanwhile.
    """
    async with open_job(results_directory) as job:
        # Here, since its libraries take 0.4 s: the job is Running by now.
        from tasks.averages.average_files import average

        summary = await average(payload, job)
        return await job.publish(summary.model_dump(), summary.notes())
