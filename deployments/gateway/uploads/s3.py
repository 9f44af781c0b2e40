"""Files of users in S3: `<prefix>/users/<name>/…`.

A file is sent once it is whole on this disk, and its digest right: so uploads are continued and
checked as those to the disk, and an object in S3 is whole or not there. Without `overwrite` it is
sent with `If-None-Match: *`; stores that ignore that header are asked before, too.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import islice
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING

from deployments.gateway.uploads.records import (
    USERS,
    Staged,
    Uploaded,
    UploadExists,
    mixed_up,
    split,
)
from deployments.gateway.uploads.sending import send
from deployments.gateway.uploads.sources import names_others, spellings
from deployments.gateway.uploads.store import Check
from tasks.contracts import S3_SCHEME, S3Address
from tasks.errors import (
    InvalidPayload,
    OperatorError,
    PrefectureError,
    SourceNotFound,
    StorageUnavailable,
)
from tasks.storage.inputs.local import is_glob, select
from tasks.storage.s3_errors import is_transient, reason, s3_errors, status, text
from tasks.storage.s3_reads import OpenObject, open_object
from tasks.storage.s3_writes import abort_uploads

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_LONGEST_KEY = 1024  # bytes
_AT_ONCE = 8  # files of all users, within the client's ten connections
_OF_ONE_REQUEST = 4  # of them: files of one archive
_COUNTED = 60.0  # seconds for which a count of bytes is used
_PAUSES = (1.0, 3.0)  # seconds before a file is sent anew
_PROBE = ".prefecture-can-write"
_MOST = 10_000  # keys that are read to look for those of a glob
_NOT_FOUND = 404
_ALIASES = ("-s3alias", "--ol-s3")  # end names of access points, which S3 takes as those of buckets


class S3Store:
    """The files below a prefix in a bucket.

    `connect` is called when S3 is first used, and again after S3 has refused a request: then the
    credentials may have been corrected.
    """

    def __init__(
        self,
        address: S3Address,
        connect: "Callable[[], S3Client]",
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        """`pauses`: seconds before each further try to send a file, while S3 does not answer."""
        self._address = address
        self._connect = connect
        self._pauses = pauses
        self._lock = Lock()
        self._connected: S3Client | None = None
        self._turns = BoundedSemaphore(_AT_ONCE)
        self._counts: dict[str, tuple[float, int]] = {}
        """By user: when it was counted, and bytes."""

    def source(self, user: str, path: str) -> str:
        """An s3:// address."""
        return f"{S3_SCHEME}{self._address.bucket}/{self._key(user, path)}"

    def find(self, user: str, path: str) -> Uploaded | None:
        """Ask for the object."""
        split(path)
        with self._calling() as client:
            try:
                found = client.head_object(Bucket=self._address.bucket, Key=self._key(user, path))
            except s3_errors() as error:
                # A missing bucket has the same answer: it is named when something is written.
                if status(error) == _NOT_FOUND:
                    return None
                raise
        return self._described(user, path, found["ContentLength"], found["LastModified"])

    def check(self, user: str, path: str, *, overwrite: bool) -> None:
        """Ask for the object, for those that would be above it, and for one below it."""
        parts = split(path)
        self._check_length(user, path)
        if not overwrite and self.find(user, path) is not None:
            raise UploadExists.of(path)
        for end in range(1, len(parts)):
            if self.find(user, "/".join(parts[:end])) is not None:
                raise mixed_up(path)
        if next(self._below(user, path, most=1), None) is not None:
            raise mixed_up(path)

    def check_in(self, user: str, folder: str, *, overwrite: bool) -> Check:
        """List what is in the folder."""
        parts = split(folder)
        for end in range(1, len(parts) + 1):
            if self.find(user, "/".join(parts[:end])) is not None:
                raise mixed_up(folder)
        files = {file.path for file in self._below(user, folder)}
        folders = {above for path in files for above in _above(path)}

        def check(path: str) -> None:
            self._check_length(user, path)
            if path in files and not overwrite:
                raise UploadExists.of(path)
            if path in folders or not files.isdisjoint(_above(path)):
                raise mixed_up(path)

        return check

    def put(self, user: str, files: Sequence[Staged], *, overwrite: bool) -> list[Uploaded]:
        """Send the files, some at a time. Where one is refused, those that were new are deleted
        again; while S3 cannot be used, those that were sent stay."""
        sent: list[Staged] = []

        def one(file: Staged) -> Uploaded:
            done = self._send(user, file, overwrite=overwrite)
            sent.append(file)
            return done

        try:
            if len(files) == 1:
                return [one(files[0])]
            with ThreadPoolExecutor(_OF_ONE_REQUEST, thread_name_prefix="archive") as threads:
                return list(threads.map(one, files))
        except (StorageUnavailable, OperatorError):
            raise
        except PrefectureError:
            for file in () if overwrite else sent:
                with suppress(PrefectureError):
                    self._delete_key(self._key(user, file.path))
            raise
        finally:
            for file in sent:
                os.unlink(file.name, dir_fd=file.folder)

    def listed(self, user: str, under: str = "") -> Iterator[Uploaded]:
        """List objects, a page at a time."""
        if under and (file := self.find(user, under)) is not None:
            yield file
            return
        yield from self._below(user, under)

    def delete(self, user: str, path: str) -> None:
        """Delete objects, some at a time."""
        keys = [self._key(user, path)] if self.find(user, path) is not None else []
        keys += [self._key(user, file.path) for file in self._below(user, path)]
        if not keys:
            raise SourceNotFound(f"there is no file or folder {path!r}")
        try:
            with ThreadPoolExecutor(_OF_ONE_REQUEST, thread_name_prefix="delete") as threads:
                list(threads.map(self._delete_key, keys))
        finally:
            self._counts.pop(user, None)

    def own_path(self, user: str, source: str) -> str | None:
        """The path of a source in the folder of a user; None where it is not there. The path may
        be that of a folder, or a glob; it is empty for all files."""
        own = f"{S3_SCHEME}{self._address.bucket}/{self._key(user, '')}"
        named = f"{source}/"
        return named.removeprefix(own).rstrip("/") if named.startswith(own) else None

    def open(self, user: str, path: str) -> OpenObject | None:
        """Open a file of a user; None where there is none."""
        split(path)
        with self._calling() as client:
            try:
                return open_object(client, self._address.bucket, self._key(user, path))
            except s3_errors() as error:
                if status(error) == _NOT_FOUND:
                    return None
                raise

    def users(self) -> list[str]:
        """List what is between slashes."""
        prefix = self._address.key(USERS, "")
        with self._calling() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._address.bucket, Prefix=prefix, Delimiter="/"
            )
            found = [each for page in pages for each in page.get("CommonPrefixes", [])]
        return sorted(each.get("Prefix", "")[len(prefix) :].rstrip("/") for each in found)

    def used(self, user: str) -> int:
        """Count by a list, and from then on what this gateway sends, for a minute."""
        now, counted = time.monotonic(), self._counts.get(user)
        if counted is None or now - counted[0] > _COUNTED:
            counted = now, sum(file.bytes for file in self._below(user))
            self._counts[user] = counted
        return counted[1]

    def remove_empty(self, user: str, before: float) -> None:
        """There are no folders in S3."""

    def remove_unfinished(self, before: float) -> None:
        """Abort multipart uploads, where the store lists them."""
        since = datetime.fromtimestamp(before, UTC)
        with self._calling() as client:
            abort_uploads(client, self._address.bucket, self._address.key(USERS, ""), since)

    def has_of_others(self, user: str, source: str) -> bool:
        """Compare the bucket and the key with those of users. Of an access point nobody knows the
        bucket here."""
        if not source.casefold().startswith(S3_SCHEME):
            return False
        for spelling in spellings(source[len(S3_SCHEME) :]):
            bucket, _, key = spelling.lstrip("/").partition("/")
            bucket = bucket.casefold()
            if bucket.startswith("arn:") or bucket.endswith(_ALIASES):
                return True
            base = [*filter(None, self._address.prefix.split("/")), USERS]
            if bucket == self._address.bucket and names_others(key, base, user):
                return True
        return False

    def is_missing(self, source: str) -> bool:
        """Ask for one key, or list those that a glob may match; of very many it is not known."""
        top = f"{S3_SCHEME}{self._address.bucket}/"
        key = source.removeprefix(top)
        if not source.startswith(top) or not key.startswith(self._address.key(USERS, "")):
            return False
        if is_glob(key):
            fixed = next(place for place, letter in enumerate(key) if is_glob(letter))
            listed = [name for name, _, _ in islice(self._objects(key[:fixed], None), _MOST + 1)]
            return len(listed) <= _MOST and not select(listed, key)
        key = key.rstrip("/")
        # An object sorts before those whose keys begin with its own.
        if next((name for name, _, _ in self._objects(key, 1)), None) == key:
            return False
        # Where the first is the mark of a folder, there may be others.
        return not any(next(self._objects(f"{key}/", most), None) for most in (1, None))

    def probe(self) -> None:
        """List one key, write an empty object and ask for it."""
        key, bucket = self._address.key(_PROBE), self._address.bucket
        with self._calling() as client:
            client.list_objects_v2(Bucket=bucket, Prefix=self._address.key(USERS, ""), MaxKeys=1)
            client.put_object(Bucket=bucket, Key=key, Body=b"")
            client.head_object(Bucket=bucket, Key=key)
            client.delete_object(Bucket=bucket, Key=key)

    def _send(self, user: str, file: Staged, *, overwrite: bool) -> Uploaded:
        descriptor = os.open(file.name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=file.folder)
        try:
            size = os.fstat(descriptor).st_size
            key = self._key(user, file.path)
            if not self._patiently(key, descriptor, size, is_new=not overwrite):
                raise UploadExists.of(file.path)
        finally:
            os.close(descriptor)
        counted = self._counts.get(user)
        if counted is not None:
            self._counts[user] = counted[0], counted[1] + size
        return self._described(user, file.path, size, datetime.now(UTC))

    def _patiently(self, key: str, body: int, size: int, *, is_new: bool) -> bool:
        """As `send`, and again after a pause while S3 does not answer."""
        for pause in self._pauses:
            try:
                with self._turns, self._calling() as client:
                    return send(client, self._address.bucket, key, body, size, is_new=is_new)
            except StorageUnavailable:
                time.sleep(pause)
        with self._turns, self._calling() as client:
            return send(client, self._address.bucket, key, body, size, is_new=is_new)

    def _below(self, user: str, folder: str = "", most: int | None = None) -> Iterator[Uploaded]:
        """The files in a folder; all of the user where none is named."""
        own = self._key(user, "")
        prefix = "/".join([own[:-1], *split(folder), ""]) if folder else own
        for key, size, modified in self._objects(prefix, most):
            yield self._described(user, key[len(own) :], size, modified)

    def _objects(self, prefix: str, most: int | None) -> Iterator[tuple[str, int, datetime]]:
        with self._calling() as client:
            pages = client.get_paginator("list_objects_v2").paginate(
                Bucket=self._address.bucket,
                Prefix=prefix,
                PaginationConfig={"MaxItems": most, "PageSize": most} if most else {},
            )
            for page in pages:
                for each in page.get("Contents", []):
                    key = each.get("Key", "")
                    if not key.endswith("/"):  # made by other programs, for a folder
                        modified = each.get("LastModified", datetime.now(UTC))
                        yield key, each.get("Size", 0), modified

    def _delete_key(self, key: str) -> None:
        with self._calling() as client:
            client.delete_object(Bucket=self._address.bucket, Key=key)

    def _check_length(self, user: str, path: str) -> None:
        most = _LONGEST_KEY - len(self._key(user, "").encode())
        if len(path.encode()) > most:
            raise InvalidPayload(f"path: it is longer than {most} bytes")

    def _key(self, user: str, path: str) -> str:
        return self._address.key(USERS, user, path)

    def _described(self, user: str, path: str, size: int, modified: datetime) -> Uploaded:
        return Uploaded(path, self.source(user, path), size, modified.timestamp())

    @contextmanager
    def _calling(self) -> "Generator[S3Client]":
        """Turn errors of S3 into one line. Raises StorageUnavailable and OperatorError."""
        try:
            yield self._client()
        except s3_errors() as error:
            if is_transient(error):
                raise StorageUnavailable(
                    f"{self._address} cannot be reached for now: {text(error)}: try again later"
                ) from error
            with self._lock:
                self._connected = None
            raise OperatorError(
                f"uploads cannot be kept in {self._address}: {reason(error)}: correct "
                "PREFECTURE_UPLOADS_ROOT, or the block and the rights of the key that "
                "PREFECTURE_S3_CREDENTIALS names"
            ) from error

    def _client(self) -> "S3Client":
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in."""
    while path := path.rpartition("/")[0]:
        yield path
