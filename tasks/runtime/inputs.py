"""The files that a job's source names: on a disk at once, in S3 by steps that are retried."""

import asyncio
from pathlib import Path

from tasks.runtime.retries import step
from tasks.settings import get_settings
from tasks.storage.inputs import s3
from tasks.storage.inputs.local import InputFile, find_local
from tasks.storage.inputs.s3 import S3Object


async def find_inputs(source: str) -> list[InputFile]:
    """The files that a source names, in the inputs root or in S3.

    Raises SourceNotFound where there are none, StorageUnavailable where S3 stays away.
    """
    settings = get_settings()
    if not s3.is_s3(source):
        return list(await asyncio.to_thread(find_local, source, settings.inputs))
    return list(await list_objects(source, settings.s3_credentials))


@step("list-objects", run_name="list {source}")
async def list_objects(source: str, credentials: str | None) -> list[S3Object]:
    """`connect` and `find_objects`, as a step."""
    client = await s3.connect(credentials)
    return await asyncio.to_thread(s3.find_objects, source, client, fetch_object)


@step("fetch-object", run_name="fetch {found.name}")
async def fetch_object(found: S3Object, path: Path) -> None:
    """`S3Object.download`, as a step."""
    await asyncio.to_thread(found.download, path)
