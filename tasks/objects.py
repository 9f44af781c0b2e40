"""Sources kept in S3: listed first, fetched one at a time when their turn comes."""

import fnmatch
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from prefect.blocks.core import Block

from tasks.errors import SourceNotFound

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

_SCHEME = "s3://"
_MAGIC = "*?["


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
        """A copy in `scratch`, streamed to disk and removed afterwards."""
        from botocore.exceptions import BotoCoreError, ClientError

        path = scratch / f"{uuid.uuid4().hex}{PurePosixPath(self.key).suffix}"
        try:
            try:
                self.client.download_file(self.bucket, self.key, str(path))
            except (BotoCoreError, ClientError) as error:
                raise SourceNotFound(
                    _one_line(f"{_SCHEME}{self.bucket}/{self.key}", error)
                ) from error
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

    Blocking: one request per 1,000 keys. Raises SourceNotFound where there are none, or the
    bucket, key or credentials are refused.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, pattern = source.removeprefix(_SCHEME).partition("/")
    if not bucket:
        raise SourceNotFound(f"source '{source}' names no bucket: write s3://bucket/prefix")
    fixed = pattern[: min((i for c in _MAGIC if (i := pattern.find(c)) >= 0), default=len(pattern))]
    is_glob = fixed != pattern
    try:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=fixed)
        keys = [item.get("Key", "") for page in pages for item in page.get("Contents", [])]
    except (BotoCoreError, ClientError) as error:
        raise SourceNotFound(_one_line(source, error)) from error
    if is_glob:
        base = fixed.rpartition("/")[0]
        keys = [key for key in keys if fnmatch.fnmatchcase(key, pattern)]
    elif pattern in keys and not pattern.endswith("/"):
        base, keys = pattern.rpartition("/")[0], [pattern]
    else:
        base = pattern.rstrip("/")
        keys = [key for key in keys if not base or key.startswith(f"{base}/")]
    found = {key[len(base) :].lstrip("/"): key for key in keys if not key.endswith("/")}
    if not found:
        raise SourceNotFound(f"source '{source}' names no object: check the bucket and the prefix")
    return [S3Object(name, client, bucket, found[name]) for name in sorted(found)]


def _one_line(address: str, error: Exception) -> str:
    return f"{address} cannot be read: {' '.join(str(error).split())}"
