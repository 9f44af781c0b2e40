"""Finds and removes files that were uploaded long ago and that no open job names."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.client.orchestration import PrefectClient

from deployments.gateway.schedules.kept import Schedules
from deployments.gateway.uploads.opening import open_store, open_uploads
from deployments.gateway.uploads.records import Uploaded
from deployments.gateway.uploads.store import Store
from deployments.retention.in_use import read_in_use
from deployments.retention.repeating import repeat
from tasks.errors import SourceNotFound
from tasks.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OldUpload:
    """A file of a user."""

    user: str
    file: Uploaded


async def old_uploads(
    client: PrefectClient, store: Store, home: Path, before: datetime, user: str | None = None
) -> list[OldUpload]:
    """The files that were uploaded before a time, of one user or of all, and that neither a job
    names which waits or runs, nor a schedule of the home."""

    def read() -> list[OldUpload]:
        users = [user] if user else store.users()
        return [
            OldUpload(name, file)
            for name in users
            for file in store.listed(name)
            if file.modified < before.timestamp()
        ]

    found = await asyncio.to_thread(read)
    if not found:
        return []
    in_use = await read_in_use(client)
    for schedule in Schedules(home).all():
        in_use.add_sources(schedule.work.payload)
    return [each for each in found if not in_use.has_input(each.file.source)]


def remove_old(store: Store, found: Sequence[OldUpload], before: datetime) -> int:
    """Remove files, unless they have been uploaded anew, and folders that have long been empty.
    Returns how many files were removed."""
    removed = 0
    for each in found:
        now = store.find(each.user, each.file.path)
        if now is not None and now.modified < before.timestamp():
            with suppress(SourceNotFound):  # its user has just deleted it
                store.delete(each.user, each.file.path)
                removed += 1
    for name in {each.user for each in found}:
        store.remove_empty(name, before.timestamp())
    return removed


class UploadsExpiry:
    """Removes old uploads: whole files after PREFECTURE_INPUTS_DAYS, and uploads that nobody has
    continued for a week."""

    def __init__(self, client: PrefectClient, settings: Settings) -> None:
        self._client = client
        self._days = settings.inputs_days
        self._home = settings.home
        self._store = open_store(settings)
        self._uploads = open_uploads(settings, self._store)

    async def run(self) -> None:
        """Remove what is old, until cancelled."""
        await repeat(self.look, "old uploads are not removed")

    async def look(self) -> None:
        """Remove what is old now."""
        await asyncio.to_thread(self._uploads.remove_unfinished)
        if self._days is None:
            return
        before = datetime.now(UTC) - timedelta(days=self._days)
        found = await old_uploads(self._client, self._store, self._home, before)
        if removed := await asyncio.to_thread(remove_old, self._store, found, before):
            _log.info("%d old uploads removed", removed)
