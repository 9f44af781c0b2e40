"""The Prefect block that stores the flows' small return values: in a folder, or in S3.

Jobs use the block of a folder without a request to the server: see tasks/storage/return_values.py.
"""

import asyncio
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.exceptions import ObjectNotFound
from prefect.filesystems import LocalFileSystem

from tasks.contracts import RESULT_BLOCK
from tasks.errors import PrefectureError
from tasks.settings import Settings
from tasks.storage.credentials import load_credentials
from tasks.storage.results.local_files import RECORDS
from tasks.storage.results.opening import open_results


async def save_result_block(settings: Settings) -> str | None:
    """Save the block; where results are kept in S3, check that they can be written.

    Returns the error in one line, or None.
    """
    if isinstance(settings.results, Path):
        await LocalFileSystem(basepath=str(settings.results / RECORDS)).asave(
            RESULT_BLOCK, overwrite=True
        )
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


async def result_block(client: PrefectClient, settings: Settings) -> UUID | None:
    """The id of the saved block; None where none is saved, or where results are kept in S3."""
    if not isinstance(settings.results, Path):
        return None
    try:
        document = await client.read_block_document_by_name(
            RESULT_BLOCK, LocalFileSystem.get_block_type_slug()
        )
    except ObjectNotFound:
        return None
    return document.id
