"""Sends a file to S3 in little memory, and over no other object unless that is asked for.

The client's own transfers of large files know no conditional write.
"""

import os
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.storage.s3_errors import error_code, s3_errors, status
from tasks.storage.s3_writes import TAKEN, write_if_new

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART = 8 * 2**20
"""Bytes of a file that are in memory at a time."""
_MOST_PARTS = 10_000  # of S3
_MARK = "prefecture-upload"  # of the metadata of an object: what this call has written


def send(client: "S3Client", bucket: str, key: str, body: int, size: int, *, is_new: bool) -> bool:
    """Send `size` bytes of an open file. Returns False where `is_new` and there is an object.

    Raises the errors of the S3 client.
    """
    mark = {_MARK: secrets.token_hex(8)}
    target = {"Bucket": bucket, "Key": key}
    try:
        if size <= PART:
            put = partial(client.put_object, **target, Body=os.pread(body, size, 0), Metadata=mark)
            _conditionally(put, is_new=is_new)
        else:
            _in_parts(client, target, body, size, mark, is_new=is_new)
    except s3_errors() as error:
        if status(error) not in TAKEN and error_code(error) != "NoSuchUpload":
            raise
        # The answer to our own write may have been lost, and the client has sent it again.
        if client.head_object(Bucket=bucket, Key=key)["Metadata"].get(_MARK) == mark[_MARK]:
            return True
        if status(error) not in TAKEN:
            raise
        return False
    return True


def _in_parts(
    client: "S3Client",
    target: dict[str, Any],
    body: int,
    size: int,
    mark: dict[str, str],
    *,
    is_new: bool,
) -> None:
    step = max(PART, -(-size // _MOST_PARTS))
    upload = client.create_multipart_upload(**target, Metadata=mark)["UploadId"]
    try:
        parts: list[CompletedPartTypeDef] = []
        for number, offset in enumerate(range(0, size, step), 1):
            sent = client.upload_part(
                **target, UploadId=upload, PartNumber=number, Body=os.pread(body, step, offset)
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        complete = partial(
            client.complete_multipart_upload,
            **target,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
        _conditionally(complete, is_new=is_new)
    except BaseException:
        with suppress(*s3_errors()):
            client.abort_multipart_upload(**target, UploadId=upload)
        raise


def _conditionally(write: "partial[Any]", *, is_new: bool) -> None:
    if is_new:
        write_if_new(write)
    else:
        write()
