"""Sources in S3: all objects are listed first, and each is downloaded when it is read."""

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.contracts import S3_SCHEME, stays_inside
from tasks.errors import FileUnreadable, OperatorError, SourceNotFound, StorageUnavailable
from tasks.storage.credentials import TRIES, s3_client
from tasks.storage.inputs.local import Unreadable, select
from tasks.storage.s3_errors import is_transient, reason_of_list, reason_of_object, s3_errors, text

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_WILDCARD = re.compile(r"[*?[]")
_SUFFIX = 16  # characters of a key's suffix that its copy keeps: file names are limited


def is_s3(source: str) -> bool:
    """Whether the source is an s3:// address."""
    return source.startswith(S3_SCHEME)


@dataclass(frozen=True)
class S3Object:
    """One object of an s3:// source."""

    name: str
    client: "S3Client"
    bucket: str
    key: str
    fetch: "Fetch"
    """How `local` downloads: in one try, or with retries."""
    listed: str = ""
    """The object's ETag when the source was listed."""

    @asynccontextmanager
    async def local(self, scratch: Path) -> AsyncGenerator[Path]:
        """Give a copy in `scratch`, streamed to disk, removed afterwards. Raises as `download`."""
        path = scratch / f"{uuid.uuid4().hex}{PurePosixPath(self.key).suffix[:_SUFFIX]}"
        try:
            await self.fetch(self, path)
            yield path
        finally:
            path.unlink(missing_ok=True)

    async def is_as_listed(self) -> bool:
        """Always true of the copy: `download` compares the ETags."""
        return True

    def download(self, path: Path) -> None:
        """Write the whole object to `path`, or nothing. Blocking.

        Raises FileUnreadable where the object is gone, refused, archived or has changed since the
        listing; StorageUnavailable where S3 does not answer.
        """
        from boto3.s3.transfer import TransferConfig

        address = f"{S3_SCHEME}{self.bucket}/{self.key}"
        with _reading(address, of_object=True):
            self.client.download_file(
                self.bucket,
                self.key,
                str(path),
                Config=TransferConfig(num_download_attempts=TRIES),
            )
            now = self.client.head_object(Bucket=self.bucket, Key=self.key)["ETag"]
        if self.listed and now != self.listed:
            path.unlink()
            reason = (
                "has changed since the job began: leave the objects alone until it has ended, and "
                "submit it again"
            )
            raise FileUnreadable(f"{address} {reason}", reason)


Fetch = Callable[[S3Object, Path], Awaitable[None]]


async def download_once(found: S3Object, path: Path) -> None:
    """Run `S3Object.download` in a thread, without retries."""
    await asyncio.to_thread(found.download, path)


async def connect(credentials: str | None) -> "S3Client":
    """Make an S3 client from the credentials block that the setting names.

    Raises SourceNotFound where no block is set, the server has none of that name, or AWS refuses
    it; StorageUnavailable where AWS does not answer.
    """
    try:
        return await s3_client(credentials)
    except OperatorError as error:
        raise SourceNotFound(str(error)) from error


def find_objects(source: str, client: "S3Client", fetch: Fetch = download_once) -> list[S3Object]:
    """Find the objects that an s3:// address (object, prefix or glob) names, sorted by name.

    Blocking: one request per 1,000 keys. Raises SourceNotFound where there are none, or the
    bucket, key or credentials are refused; FileUnreadable where a key cannot be a path;
    StorageUnavailable where S3 does not answer.
    """
    found: list[S3Object] = []
    for member in find_each_object(source, client, fetch):
        if isinstance(member, Unreadable):
            raise FileUnreadable(member.message, member.reason)
        found.append(member)
    return found


def find_each_object(
    source: str, client: "S3Client", fetch: Fetch = download_once
) -> list[S3Object | Unreadable]:
    """Find objects as `find_objects`; keys that cannot be paths become unreadable members."""
    bucket, _, pattern = source.removeprefix(S3_SCHEME).partition("/")
    if not bucket:
        raise SourceNotFound(f"source '{source}' names no bucket: write s3://bucket/prefix")
    with _reading(source):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=_WILDCARD.split(pattern, maxsplit=1)[0]
        )
        listed = [item for page in pages for item in page.get("Contents", [])]
    etags = {item.get("Key", ""): item.get("ETag", "") for item in listed}
    found = select([key for key in etags if not key.endswith("/")], pattern)
    if not found:
        raise SourceNotFound(f"source '{source}' names no object: check the bucket and the prefix")
    members: list[S3Object | Unreadable] = []
    for name in sorted(found):
        key = found[name]
        # The name becomes the path in the result.
        if stays_inside(name):
            members.append(S3Object(name, client, bucket, key, fetch, etags[key]))
            continue
        reason = (
            "cannot be a path, by an empty, '.' or '..' segment: rename the object, or name a "
            "source without it"
        )
        members.append(Unreadable(name, reason, f"source '{source}': the key {key!r} {reason}"))
    return members


@contextmanager
def _reading(address: str, of_object: bool = False) -> Generator[None]:
    """Turn the S3 client's errors into one line: transient, or for the user to correct."""
    try:
        yield
    except s3_errors() as error:
        if is_transient(error):
            raise StorageUnavailable(
                f"{address} cannot be read for now: {text(error)}: try again later"
            ) from error
        if of_object:
            reason = f"cannot be read: {reason_of_object(error)}"
            raise FileUnreadable(f"{address} {reason}", reason) from error
        raise SourceNotFound(f"{address} cannot be read: {reason_of_list(error)}") from error
