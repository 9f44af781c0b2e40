"""Results in S3: each attempt has its own keys, and publishes by one conditional write.

    <prefix>/<directory>/<job id>/manifest.json              written last, once: the result
    <prefix>/<directory>/<job id>/<attempt>.<token>/<path>   files of the attempt in the manifest
    <scratch>/.staging/<job id>.<attempt>.<token>/           the stage of one attempt, on its host

The manifest is written with `If-None-Match: *`: of two attempts the second is refused, and removes
its own keys. For stores that ignore that header, the attempt reads the manifest before it writes
and after: an attempt that the manifest does not name has lost. Keys of a dead attempt are found by
its folder on its host. That folder is removed last, and not while its manifest may still arrive.
"""

import logging
import secrets
import shutil
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from uuid import UUID

from tasks.contracts import S3Address
from tasks.errors import CorruptResult, PrefectureError
from tasks.storage.results import local_files
from tasks.storage.results.parts import S3Parts
from tasks.storage.results.s3_result import (
    S3Result,
    dated_keys,
    keys,
    read_manifest,
    reading,
    writing,
)
from tasks.storage.results.s3_stage import STORED, S3Stage, manifest_may_arrive, parts_of
from tasks.storage.s3_writes import abort_uploads

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_MANIFEST = f"/{local_files.MANIFEST}"
_PROBE = ".prefecture-can-write"
_log = logging.getLogger(__name__)


class S3Root:
    """A results root that is a prefix in a bucket."""

    fails_transiently = True

    def __init__(
        self, address: S3Address, scratch: Path, connect: "Callable[[], S3Client]"
    ) -> None:
        """`scratch`: a folder on this host; `connect` is called when S3 is first used."""
        self._address = address
        self._scratch = scratch
        self._connect = connect
        self._lock = Lock()
        self._connected: S3Client | None = None

    @property
    def client(self) -> "S3Client":
        """The S3 client of this root."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    @contextmanager
    def open_stage(self, directory: str, job: UUID, attempt: UUID) -> Generator[S3Stage]:
        """Open a stage for one attempt; its keys in S3 are removed with it, unless published."""
        # An attempt that was put back in its queue runs again under the same id: hence the token.
        name = f"{attempt}.{secrets.token_hex(4)}"
        folder = self._scratch / local_files.STAGING / f"{job}.{name}"
        stage = S3Stage(lambda: self.client, self._place(directory, job), folder, name)
        try:
            folders = (stage.files, stage.scratch)
            with local_files.stage_folders(self._scratch, folder, attempt, *folders):
                yield stage
        finally:
            if stage.published:
                local_files.discard(folder)
            else:
                self._leave(stage)

    def parts(self, directory: str, job: UUID, stage: str) -> S3Parts:
        """Parts under the keys of that attempt."""
        return S3Parts(lambda: self.client, parts_of(self._place(directory, job), stage))

    def staged(self) -> set[tuple[UUID, UUID]]:
        """Job id and attempt id of every stage on this host."""
        return local_files.staged(self._scratch)

    def discard_stages(self, job: UUID, attempt: UUID | None = None) -> None:
        """Remove the stages and keys of attempts of this host at a job."""
        for folder in (self._scratch / local_files.STAGING).glob(f"{job}.{attempt or '*'}.*"):
            self._discard(folder)

    def is_published(self, directory: str, job: UUID) -> bool:
        """Whether a job's manifest exists; its content is not read."""
        place = self._place(directory, job)
        return local_files.MANIFEST in self._names(place.key(local_files.MANIFEST), place)

    def find(self, directory: str, job: UUID) -> S3Result | None:
        """The result of a job; None where none is published."""
        return self._read(self._place(directory, job))

    def search(self, job: UUID) -> S3Result | None:
        """As `find`, in all directories: lists every key of the root."""
        manifest = f"/{job}/{local_files.MANIFEST}"
        with reading(str(self._address)):
            for key in self._keys(self._address.key("")):
                if f"/{key}".endswith(manifest):
                    return self._read(
                        S3Address(
                            self._address.bucket, key.removesuffix(f"/{local_files.MANIFEST}")
                        )
                    )
        return None

    def remove_old(self, directory: str, task: str, before: datetime) -> int:
        """Remove old results, the manifest of each first: without it, there is no result."""
        gone = 0
        with reading(str(self._address)):
            listed = dated_keys(self.client, self._address.bucket, self._address.key(directory, ""))
            old = [key for key, at in listed if at < before and key.endswith(_MANIFEST)]
        for key in old:
            place = S3Address(self._address.bucket, key.removesuffix(_MANIFEST))
            with suppress(CorruptResult):  # its task is unknown: left alone
                manifest = read_manifest(self.client, place)
                if manifest is None or manifest.task != task or manifest.published >= before:
                    continue
                with writing(str(place)):
                    self.client.delete_object(Bucket=place.bucket, Key=key)
                    self._delete(place.key(""))
                gone += 1
        return gone

    def check(self) -> None:
        """Write an empty object under a fixed key."""
        try:
            with writing(str(self._address)):
                self.client.put_object(
                    Bucket=self._address.bucket, Key=self._address.key(_PROBE), Body=b""
                )
        except PrefectureError:
            self._connected = None  # load the credentials anew the next time: they may be corrected
            raise

    def _place(self, directory: str, job: UUID) -> S3Address:
        return S3Address(self._address.bucket, self._address.key(directory, str(job)))

    def _read(self, place: S3Address) -> S3Result | None:
        manifest = read_manifest(self.client, place)
        return None if manifest is None else S3Result(self.client, place, manifest)

    def _names(self, prefix: str, place: S3Address) -> set[str]:
        with reading(str(place)):
            return {key.rpartition("/")[2] for key in self._keys(prefix)}

    def _keys(self, prefix: str) -> Iterable[str]:
        return keys(self.client, self._address.bucket, prefix)

    def _leave(self, stage: S3Stage) -> None:
        """Discard this process's own stage; where that fails, the supervisor does it later."""
        if not stage.at_work.acquire(blocking=False):
            # Cancelled: the thread would upload more files after the removal.
            _log.warning("%s is left behind: it is still uploading", stage.folder.name)
            return
        try:
            self._discard(stage.folder)
        except PrefectureError as error:
            _log.warning("%s is left behind: %s", stage.folder.name, error)
        finally:
            for path in (stage.files, stage.scratch):
                shutil.rmtree(path, ignore_errors=True)
            stage.at_work.release()

    def _discard(self, folder: Path) -> None:
        """Remove an attempt's keys, unless a result uses them, then its folder.

        Both are left for a later call while the attempt's manifest may still arrive.
        """
        stored = folder / STORED
        if stored.is_file():
            place = S3Address(self._address.bucket, stored.read_text())
            _, _, name = folder.name.partition(".")
            standing = read_manifest(self.client, place)
            if standing is None or standing.folder != name:
                if manifest_may_arrive(folder):
                    return
                with writing(str(place)):
                    abort_uploads(self.client, self._address.bucket, place.key(name, ""))
                    self._delete(place.key(name, ""))
        local_files.discard(folder)

    def _delete(self, prefix: str) -> None:
        for key in list(self._keys(prefix)):
            self.client.delete_object(Bucket=self._address.bucket, Key=key)
