"""sum-files: some of the files of a job of average-files, for the job to put together."""

from tasks.contracts import SumFiles
from tasks.runtime.helper_flow import helper_flow


@helper_flow("sum-files")
async def sum_files(part: SumFiles) -> None:
    """Hand the exact sums of some files to the job that has asked for them.

    Such runs are made by jobs of average-files that have several workers. They end with their job.
    """
    # Here, since its libraries take 0.4 s: the run is Running by now.
    from tasks.averages.average_files import sum_part

    await sum_part(part)
