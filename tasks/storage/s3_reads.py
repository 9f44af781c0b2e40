"""Reads an object in S3 in parts, for an answer that is sent meanwhile."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client

_CHUNK = 2**18  # bytes


@dataclass(frozen=True)
class OpenObject:
    """An object that is read from its beginning. Its methods block.

    They raise the errors of the S3 client, also where the object ends too early.
    """

    size: int
    """Bytes."""
    body: "StreamingBody"

    def read(self, most: int) -> bytes:
        """The next bytes, fewer than `most` at the end only."""
        return self.body.read(most)

    def rest(self) -> Iterator[bytes]:
        """What has not been read yet."""
        return self.body.iter_chunks(_CHUNK)

    def close(self) -> None:
        """Give up the connection, where something is left."""
        self.body.close()


def open_object(client: "S3Client", bucket: str, key: str) -> OpenObject:
    """Open an object. Raises the errors of the S3 client."""
    found = client.get_object(Bucket=bucket, Key=key)
    return OpenObject(found["ContentLength"], found["Body"])
