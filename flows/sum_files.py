"""sum-files: sums a part of the files of a job of average-files."""

from tasks.contracts import SumFiles
from tasks.runtime.helper_flow import helper_flow


@helper_flow("sum-files")
async def sum_files(part: SumFiles) -> None:
    """Pass the exact sums of some files to the job of average-files that started this run.

    Jobs of average-files with several workers start such runs, which end with their job.
    """
    # Imported here, because its libraries take 0.4 s: the run is Running already.
    from tasks.averages.average_files import sum_part

    await sum_part(part)
