"""The block that Prefect keeps the flows' small return values in, where results are in S3.

Where they are in a folder, the flows name that folder: see tasks/runtime/compute_task.py.
"""

import asyncio
from pathlib import Path

from tasks.contracts import RESULT_BLOCK
from tasks.errors import PrefectureError
from tasks.settings import Settings
from tasks.storage.credentials import load_credentials
from tasks.storage.results.local_files import RECORDS
from tasks.storage.results.opening import open_results


async def save_result_block(settings: Settings) -> str | None:
    """Save it, and see that results can be written where they are kept in S3.

    Returns what stands in the way, in one line; None where nothing does.
    """
    if isinstance(settings.results, Path):
        return None
    try:
        credentials = await load_credentials(settings.s3_credentials)
        # Registers the block type; heavy, so imported only where S3 is named.
        from prefect_aws.s3 import S3Bucket

        block = S3Bucket(
            bucket_name=settings.results.bucket,
            bucket_folder=settings.results.key(RECORDS),
            credentials=credentials,
        )
        await block.asave(RESULT_BLOCK, overwrite=True)
        await asyncio.to_thread(open_results(settings).check)
    except PrefectureError as error:
        return str(error)
    return None
