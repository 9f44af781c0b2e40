"""sum-files: some of the files of a job of average-files, for the job to put together."""

from tasks.averages.job import sum_part
from tasks.contracts import SumFiles
from tasks.helping import helping_task


@helping_task("sum-files")
async def sum_files(part: SumFiles) -> None:
    """Hand the exact sums of some files to the job that has asked for them.

    Such runs are made by jobs of average-files that have several workers. They end with their job.
    """
    await sum_part(part)
