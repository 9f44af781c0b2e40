"""Sources kept in S3: listed first, fetched one at a time when their turn comes."""

import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from prefect.blocks.core import Block

from tasks.contracts import stays_inside
from tasks.errors import PrefectureError, SourceNotFound, StorageUnavailable
from tasks.inputs import Glob, split_glob

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_SCHEME = "s3://"
_WILDCARD = re.compile(r"[*?[]")
_SUFFIX = 16  # characters of a key's suffix that its copy keeps: names of files are short
_PASSING_STATUS = (408, 429)  # and 500 up
_PASSING_CODES = ("RequestTimeout", "SlowDown", "Throttling")


def is_s3(source: str) -> bool:
    """Whether the source is an s3:// address."""
    return source.startswith(_SCHEME)


@dataclass(frozen=True)
class S3Object:
    """One object of an s3:// source."""

    name: str
    client: "S3Client"
    bucket: str
    key: str

    @contextmanager
    def local(self, scratch: Path) -> Generator[Path]:
        """A copy in `scratch`, streamed to disk and removed afterwards.

        Raises SourceNotFound where the object is gone or refused, StorageUnavailable where S3 is.
        """
        path = scratch / f"{uuid.uuid4().hex}{PurePosixPath(self.key).suffix[:_SUFFIX]}"
        try:
            with _reading(f"{_SCHEME}{self.bucket}/{self.key}"):
                self.client.download_file(self.bucket, self.key, str(path))
            yield path
        finally:
            path.unlink(missing_ok=True)


async def connect(credentials: str | None) -> "S3Client":
    """An S3 client from the credentials block that the setting names.

    Raises SourceNotFound where no block is set or the server has none of that name.
    """
    if credentials is None:
        raise SourceNotFound(
            "s3:// sources need credentials: save an AwsCredentials or MinIOCredentials block and "
            "set PREFECTURE_S3_CREDENTIALS to its name, e.g. aws-credentials/photos"
        )
    # Registers the block types; heavy, so imported only when a payload names S3.
    from prefect_aws.credentials import AwsCredentials, MinIOCredentials

    try:
        block = await Block.aload(credentials)
    except ValueError as error:
        raise SourceNotFound(
            f"there is no block {credentials} on the Prefect server: save it, or correct "
            "PREFECTURE_S3_CREDENTIALS"
        ) from error
    assert isinstance(block, AwsCredentials | MinIOCredentials)  # the setting's pattern says so
    return block.get_s3_client()


def find_objects(source: str, client: "S3Client") -> list[S3Object]:
    """The objects that an s3:// address names (an object, a prefix or a glob), sorted by name.

    Blocking: one request per 1,000 keys. Raises SourceNotFound where there are none, a key cannot
    be a path, or the bucket, key or credentials are refused; StorageUnavailable where S3 is.
    """
    bucket, _, pattern = source.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise SourceNotFound(f"source '{source}' names no bucket: write s3://bucket/prefix")
    with _reading(source):
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=_WILDCARD.split(pattern, maxsplit=1)[0]
        )
        keys = [item.get("Key", "") for page in pages for item in page.get("Contents", [])]
    found = _select([key for key in keys if not key.endswith("/")], pattern)
    if not found:
        raise SourceNotFound(f"source '{source}' names no object: check the bucket and the prefix")
    for name, key in found.items():
        # The name is where the result will be written.
        if not stays_inside(name):
            raise SourceNotFound(
                f"source '{source}': the key {key!r} cannot be a path, by an empty, '.' or '..' "
                "segment: rename the object, or name a source without it"
            )
    return [S3Object(name, client, bucket, found[name]) for name in sorted(found)]


def _select(keys: list[str], pattern: str) -> dict[str, str]:
    """The keys that are meant, by their name in the source: what is called so, before a glob."""
    if pattern in keys:
        return {pattern.rpartition("/")[2]: pattern}
    prefix = f"{pattern.removesuffix('/')}/" if pattern else ""
    if found := {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}:
        return found
    folder, rest = split_glob(pattern)
    prefix, glob = f"{folder}/" if folder else "", Glob(rest)
    names = {key.removeprefix(prefix): key for key in keys if key.startswith(prefix)}
    return {name: key for name, key in names.items() if glob.matches(name)}


@contextmanager
def _reading(address: str) -> Generator[None]:
    """Every failure of the S3 client as one line."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from s3transfer.exceptions import S3DownloadFailedError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError, S3DownloadFailedError) as error:
        raise _explained(address, error) from error


def _explained(address: str, error: Exception) -> PrefectureError:
    """The user's to mend, or no one's: what fails the same way each time is the user's."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import (
        ClientError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
    )

    text = " ".join(str(getattr(error, "last_exception", error)).split())
    passing = isinstance(
        error, Boto3Error | ConnectionError | HTTPClientError | IncompleteReadError
    )
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        passing = status >= 500 or status in _PASSING_STATUS or code in _PASSING_CODES
    if passing:
        return StorageUnavailable(f"{address} cannot be read for now: {text}: try again later")
    return SourceNotFound(f"{address} cannot be read: {text}")
