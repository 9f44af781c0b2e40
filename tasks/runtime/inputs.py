"""The files that a job's source names: on a disk at once, in S3 by steps that are retried."""

import asyncio
from pathlib import Path

from tasks.errors import FileUnreadable
from tasks.runtime.retries import here, step
from tasks.settings import run_settings
from tasks.storage.inputs import s3
from tasks.storage.inputs.local import InputFile, Unreadable, find_each, find_local
from tasks.storage.inputs.s3 import S3Object


async def find_inputs(source: str, *, each: bool = False) -> list[InputFile]:
    """The files that a source names, in the inputs root or in S3.

    With `each`, a member that cannot be read is one of them, and says why when it is opened; else
    it is refused here. Raises SourceNotFound where there are none, StorageUnavailable where S3
    stays away.
    """
    settings = run_settings()
    if not s3.is_s3(source):
        find = find_each if each else find_local
        return list(await asyncio.to_thread(find, source, settings.inputs))
    if each:
        return list(await here(list_each_object)(source, settings.s3_credentials))
    return list(await here(list_objects)(source, settings.s3_credentials))


@step("list-objects", run_name="list {source}")
async def list_objects(source: str, credentials: str | None) -> list[S3Object]:
    """`connect` and `find_objects`, as a step."""
    client = await s3.connect(credentials)
    return await asyncio.to_thread(s3.find_objects, source, client, here(fetch_object))


@step("list-objects", run_name="list {source}")
async def list_each_object(source: str, credentials: str | None) -> list[S3Object | Unreadable]:
    """`connect` and `find_each_object`, as a step."""
    client = await s3.connect(credentials)
    return await asyncio.to_thread(s3.find_each_object, source, client, fetch_each)


@step("fetch-object", run_name="fetch {found.name}")
async def fetch_object(found: S3Object, path: Path) -> None:
    """`S3Object.download`, as a step."""
    await asyncio.to_thread(found.download, path)


@step("fetch-object", run_name="fetch {found.name}")
async def fetch_or_say(found: S3Object, path: Path) -> FileUnreadable | None:
    """`fetch_object`, and the refusal where the object is refused.

    It is not raised: Prefect would log a traceback for what the task only lists as broken.
    """
    try:
        await asyncio.to_thread(found.download, path)
    except FileUnreadable as refusal:
        return refusal
    return None


async def fetch_each(found: S3Object, path: Path) -> None:
    """Download an object by a step. Raises FileUnreadable, StorageUnavailable."""
    if (refusal := await here(fetch_or_say)(found, path)) is not None:
        raise refusal
