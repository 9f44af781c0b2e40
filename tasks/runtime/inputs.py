"""The files that a job's source names: on a disk directly, in S3 by tasks that are retried."""

import asyncio
import functools
from pathlib import Path
from typing import cast

from tasks.contracts import JobSource
from tasks.errors import FileUnreadable
from tasks.runtime.retries import as_task, retried_task, with_retries
from tasks.settings import Settings, run_settings
from tasks.storage.inputs import s3
from tasks.storage.inputs.local import InputFile, Unreadable, find_each, find_local
from tasks.storage.inputs.results import find_in_result
from tasks.storage.inputs.s3 import S3Object
from tasks.storage.results.opening import open_results


async def find_inputs(source: str, *, each: bool = False) -> list[InputFile]:
    """Find the files that a source names, in the inputs root, in S3 or in another job's result.

    With `each`, the list includes members that cannot be read, which raise FileUnreadable when they
    are opened; without it, such a member raises SourceNotFound here.
    Raises SourceNotFound where there are no files, StorageUnavailable where S3 does not answer.
    """
    settings = run_settings()
    if (of_job := JobSource.parse(source)) is not None:
        return await _of_another_job(source, of_job, settings, each=each)
    if not s3.is_s3(source):
        find = find_each if each else find_local
        return list(await asyncio.to_thread(find, source, settings.inputs))
    if each:
        return list(await as_task(list_each_object)(source, settings.s3_credentials))
    return list(await as_task(list_objects)(source, settings.s3_credentials))


async def _of_another_job(
    source: str, wanted: JobSource, settings: Settings, *, each: bool
) -> list[InputFile]:
    """Find the files of another job's result. Raises SourceNotFound, CorruptResult."""
    root = open_results(settings)
    fetch = fetch_each if each else as_task(fetch_object)
    find = functools.partial(find_in_result, source, wanted, root, fetch)
    if root.fails_transiently:
        return cast(list[InputFile], await as_task(with_retries)(f"find the result {wanted}", find))
    return await asyncio.to_thread(find)


@retried_task("list-objects", run_name="list {source}")
async def list_objects(source: str, credentials: str | None) -> list[S3Object]:
    """`connect` and `find_objects`, as a task with retries."""
    client = await s3.connect(credentials)
    return await asyncio.to_thread(s3.find_objects, source, client, as_task(fetch_object))


@retried_task("list-objects", run_name="list {source}")
async def list_each_object(source: str, credentials: str | None) -> list[S3Object | Unreadable]:
    """`connect` and `find_each_object`, as a task with retries."""
    client = await s3.connect(credentials)
    return await asyncio.to_thread(s3.find_each_object, source, client, fetch_each)


@retried_task("fetch-object", run_name="fetch {found.name}")
async def fetch_object(found: S3Object, path: Path) -> None:
    """`S3Object.download`, as a task with retries."""
    await asyncio.to_thread(found.download, path)


@retried_task("fetch-object", run_name="fetch {found.name}")
async def fetch_or_refusal(found: S3Object, path: Path) -> FileUnreadable | None:
    """Download an object; return FileUnreadable where S3 refuses it.

    The error is not raised: Prefect would log a traceback, and the compute task only lists the file
    as broken.
    """
    try:
        await asyncio.to_thread(found.download, path)
    except FileUnreadable as refusal:
        return refusal
    return None


async def fetch_each(found: S3Object, path: Path) -> None:
    """Download an object with retries. Raises FileUnreadable, StorageUnavailable."""
    if (refusal := await as_task(fetch_or_refusal)(found, path)) is not None:
        raise refusal
