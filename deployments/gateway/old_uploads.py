"""Finds and removes files that were uploaded long ago and that no open job names."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from prefect.client.orchestration import PrefectClient

from deployments.gateway.uploads import Uploaded, Uploads
from deployments.retention.in_use import read_in_use
from tasks.errors import SourceNotFound


@dataclass(frozen=True)
class OldUpload:
    """A file of a user."""

    user: str
    file: Uploaded


async def old_uploads(
    client: PrefectClient, uploads: Uploads, before: datetime, user: str | None = None
) -> list[OldUpload]:
    """The files that were uploaded before a time, of one user or of all, and that no job names
    which waits or runs."""

    def read() -> list[OldUpload]:
        users = [user] if user else uploads.users()
        return [
            OldUpload(name, file)
            for name in users
            for file in uploads.listed(name)
            if file.modified < before.timestamp()
        ]

    found = await asyncio.to_thread(read)
    if not found:
        return []
    in_use = await read_in_use(client)
    return [each for each in found if not in_use.has_input(each.file.source)]


def remove_old(uploads: Uploads, found: Sequence[OldUpload], before: datetime) -> int:
    """Remove files, unless they have been uploaded anew, and folders that have long been empty.
    Returns how many files were removed."""
    removed = 0
    for each in found:
        now = uploads.find(each.user, each.file.path)
        if now is not None and now.modified < before.timestamp():
            with suppress(SourceNotFound):  # its user has just deleted it
                uploads.delete(each.user, each.file.path)
                removed += 1
    for name in {each.user for each in found}:
        uploads.remove_empty(name, before.timestamp())
    return removed
